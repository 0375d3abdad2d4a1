"""Writes USDZ without a library: a USD scene as text and its texture, in a memory-mappable zip archive."""

from __future__ import annotations

import io
import zipfile

from torch import Tensor

ALIGNMENT = 64  # bytes; USDZ aligns the data of every file in the archive to multiples of it
HEADER = 30  # bytes of a zip entry's header before the file name
PADDING = 0x1986  # identifier of the zip extra field used as padding, as in USD's own writer

SCENE = """\
#usda 1.0
(
    defaultPrim = "Object"
    metersPerUnit = 1
    upAxis = "Y"
)

def Xform "Object" (
    kind = "component"
)
{{
    def Mesh "Surface" (
        prepend apiSchemas = ["MaterialBindingAPI"]
    )
    {{
        float3[] extent = [{extent}]
        int[] faceVertexCounts = [{counts}]
        int[] faceVertexIndices = [{indices}]
        rel material:binding = </Object/Material>
        normal3f[] normals = [{normals}] (
            interpolation = "vertex"
        )
        point3f[] points = [{points}]
        texCoord2f[] primvars:st = [{uv}] (
            interpolation = "vertex"
        )
        uniform token subdivisionScheme = "none"
    }}

    def Material "Material"
    {{
        token outputs:surface.connect = </Object/Material/Shader.outputs:surface>

        def Shader "Shader"
        {{
            uniform token info:id = "UsdPreviewSurface"
            color3f inputs:diffuseColor.connect = </Object/Material/Albedo.outputs:rgb>
            float inputs:metallic = 0
            float inputs:roughness = 1
            token outputs:surface
        }}

        def Shader "Albedo"
        {{
            uniform token info:id = "UsdUVTexture"
            asset inputs:file = @albedo.png@
            token inputs:sourceColorSpace = "sRGB"
            float2 inputs:st.connect = </Object/Material/Place.outputs:result>
            token inputs:wrapS = "clamp"
            token inputs:wrapT = "clamp"
            float3 outputs:rgb
        }}

        def Shader "Place"
        {{
            uniform token info:id = "UsdPrimvarReader_float2"
            string inputs:varname = "st"
            float2 outputs:result
        }}
    }}
}}
"""


def usdz(vertices: Tensor, normals: Tensor, faces: Tensor, uv: Tensor, picture: bytes) -> bytes:
    """Pack a textured mesh.

    Args:
        vertices: in metres, y up, [V, 3].
        normals: unit, [V, 3].
        faces: counter-clockwise seen from outside, [F, 3].
        uv: [V, 2], v upwards.
        picture: the texture as PNG.

    Returns:
        The archive's bytes.
    """
    scene = SCENE.format(
        extent=_tuples([vertices.amin(0).tolist(), vertices.amax(0).tolist()]),
        counts=", ".join(["3"] * len(faces)),
        indices=", ".join(map(str, faces.flatten().tolist())),
        normals=_tuples(normals.tolist()),
        points=_tuples(vertices.tolist()),
        uv=_tuples(uv.tolist()),
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in (("object.usda", scene.encode()), ("albedo.png", picture)):
            entry = zipfile.ZipInfo(name)  # with a constant date
            begin = buffer.tell() + HEADER + len(name) + 4  # 4: header of the extra field
            missing = -begin % ALIGNMENT
            entry.extra = PADDING.to_bytes(2, "little") + missing.to_bytes(2, "little") + bytes(missing)
            archive.writestr(entry, data)
    return buffer.getvalue()


def _tuples(rows: list[list[float]]) -> str:
    return ", ".join(f"({', '.join(f'{value:.6g}' for value in row)})" for row in rows)
