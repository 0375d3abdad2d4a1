"""Writes assets as mesh files."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dreamfusion_pl.atomic import replacing
from dreamfusion_pl.export.asset import Asset
from dreamfusion_pl.export.files.usdz import usdz
from dreamfusion_pl.export.surface.mesh import Mesh, is_closed
from dreamfusion_pl.export.texture.atlas import Charts
from dreamfusion_pl.export.texture.normals import tangents

if TYPE_CHECKING:
    from PIL.Image import Image
    from trimesh import Trimesh

FORMATS = (".glb", ".obj", ".ply", ".stl", ".usdz")


def write_asset(asset: Asset, path: str | Path) -> Path:
    """Write an asset in the format of the path's suffix.

    ``.glb`` (glTF 2.0), ``.obj`` and ``.usdz`` are textured, with y up and the front at +z.
    ``.ply`` (with vertex colours) and ``.stl`` keep the world axes: z up, front at +x. Lengths are in metres,
    except in ``.stl``, which has no unit: there they are in millimetres, as 3D printing software expects.
    Material and texture of an ``.obj`` are written next to it as ``NAME.mtl`` and ``NAME.png``, with ``_`` in
    place of spaces: inside a file, a space ends a name for most programs.

    Args:
        asset: the asset.
        path: the file, written atomically.

    Returns:
        The path.

    Raises:
        ValueError: the suffix is unknown.
        OSError: the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"an object is written as one of {', '.join(FORMATS)}; got {path.name!r}")
    if suffix == ".glb":
        _write({path: _glb(asset)})
    elif suffix == ".usdz":
        vertices, normals = y_up(asset.charts.vertices), y_up(asset.charts.normals)
        picture = _png(asset.texture)
        _write({path: usdz(vertices, normals, asset.charts.faces, asset.charts.uv, picture)})
    elif suffix == ".obj":
        _write(_obj(asset.charts, asset.texture, path))
    elif suffix == ".stl":
        millimetres = asset.mesh._replace(vertices=1000.0 * asset.mesh.vertices)
        _write({path: _colored(millimetres).export(file_type="stl")})
    else:
        _write({path: _colored(asset.mesh).export(file_type=suffix[1:])})
    return path


def check_formats(names: str) -> list[str]:
    """Return the suffixes in a comma-separated list such as "glb,stl".

    Raises:
        ValueError: a format is unknown, or the list is empty.
    """
    suffixes = [f".{name.strip().lower().lstrip('.')}" for name in names.split(",") if name.strip()]
    unknown = [suffix for suffix in suffixes if suffix not in FORMATS]
    if unknown or not suffixes:
        known = ", ".join(suffix[1:] for suffix in FORMATS)
        raise ValueError(f"formats are some of {known}, with commas between; got {names!r}")
    return list(dict.fromkeys(suffixes))


def y_up(points: Tensor) -> Tensor:
    """Convert world axes (front +x, up +z) to glTF axes (front +z, up +y): [..., 3] -> [..., 3]."""
    return points[..., [1, 2, 0]]


def _write(files: Mapping[Path, Any]) -> None:
    """Write related files: all are complete before any is renamed, and the first is renamed last."""
    with ExitStack() as stack:
        for path, data in files.items():
            stack.enter_context(replacing(path)).write_bytes(data)


def _glb(asset: Asset) -> Any:
    from trimesh import Trimesh
    from trimesh.exchange.gltf import export_glb
    from trimesh.visual import TextureVisuals
    from trimesh.visual.material import PBRMaterial

    charts, normal_map = asset.charts, asset.normal_map
    material = PBRMaterial(
        name="albedo",
        baseColorTexture=_picture(asset.texture),
        normalTexture=None if normal_map is None else _picture(normal_map),
        metallicFactor=0.0,
        roughnessFactor=1.0,
        doubleSided=not is_closed(asset.mesh.faces.numpy()),  # an open surface shows its inside
    )
    solid = Trimesh(
        y_up(charts.vertices).numpy(),
        charts.faces.numpy(),
        vertex_normals=y_up(charts.normals).numpy(),
        visual=TextureVisuals(uv=charts.uv.numpy(), material=material),
        process=False,
    )
    if normal_map is not None:
        tangent = tangents(charts)
        turned = torch.cat([y_up(tangent[:, :3]), tangent[:, 3:]], dim=-1)
        solid.vertex_attributes["_TANGENT"] = turned.numpy()
    return export_glb(solid, include_normals=True, tree_postprocessor=_name_tangents)


def _name_tangents(tree: dict[str, Any]) -> None:
    """Rename ``_TANGENT`` to glTF's ``TANGENT``: trimesh prefixes custom attributes with an underscore."""
    for mesh in tree["meshes"]:
        for primitive in mesh["primitives"]:
            attributes = primitive["attributes"]
            if "_TANGENT" in attributes:
                attributes["TANGENT"] = attributes.pop("_TANGENT")


def _obj(charts: Charts, texture: Tensor, path: Path) -> dict[Path, bytes]:
    """Return the contents of the .obj, its .mtl and its texture."""
    corner = np.repeat(charts.faces.numpy() + 1, 3, axis=1)  # position, uv and normal have the same index
    name = re.sub(r"[^\w.()-]", "_", path.stem)
    material_file, texture_file = (path.with_name(f"{name}{suffix}") for suffix in (".mtl", ".png"))
    lines = [f"mtllib {material_file.name}", "usemtl albedo"]
    for kind, rows in (("v", y_up(charts.vertices)), ("vt", charts.uv), ("vn", y_up(charts.normals))):
        lines += [f"{kind} {' '.join(f'{value:.6g}' for value in row)}" for row in rows.tolist()]
    lines += ["f {}/{}/{} {}/{}/{} {}/{}/{}".format(*row) for row in corner.tolist()]
    material = f"newmtl albedo\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {texture_file.name}\n"
    return {
        path: ("\n".join(lines) + "\n").encode(),
        material_file: material.encode(),
        texture_file: _png(texture),
    }


def _colored(mesh: Mesh) -> Trimesh:
    from trimesh import Trimesh

    colors = (mesh.colors * 255.0).round().to(torch.uint8)
    return Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), vertex_colors=colors.numpy(), process=False)


def _png(texture: Tensor) -> bytes:
    buffer = io.BytesIO()
    _picture(texture).save(buffer, format="PNG")
    return buffer.getvalue()


def _picture(texture: Tensor) -> Image:
    from PIL import Image

    return Image.fromarray((texture.clamp(0.0, 1.0) * 255.0).round().byte().numpy())
