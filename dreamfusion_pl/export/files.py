"""Meshes as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dreamfusion_pl.export.atomic import replacing
from dreamfusion_pl.export.mesh import Mesh

if TYPE_CHECKING:
    from trimesh import Trimesh

FORMATS = (".glb", ".obj", ".ply")


def write_mesh(mesh: Mesh, path: str | Path) -> Path:
    """Write a mesh with vertex colours; the suffix says how.

    ``.glb`` and ``.obj`` have y up and the front at +z, as their readers expect; ``.ply`` keeps the world's
    axes (z up, front at +x). glTF stores vertex colours in linear light, the other two as displayed.

    Args:
        mesh: what to write.
        path: the file, replaced as a whole if it is there.

    Returns:
        The path.

    Raises:
        ValueError: the suffix is none of the three.
        OSError: the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"a mesh is written as one of {', '.join(FORMATS)}; got {path.name!r}")
    if suffix == ".glb":
        solid = _trimesh(y_up(mesh.vertices), mesh.faces, to_linear(mesh.colors))
        data: Any = solid.export(file_type="glb", include_normals=True, tree_postprocessor=_add_material)
    elif suffix == ".obj":
        data = _trimesh(y_up(mesh.vertices), mesh.faces, mesh.colors).export(file_type="obj")
    else:
        data = _trimesh(mesh.vertices, mesh.faces, mesh.colors).export(file_type="ply")
    with replacing(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def y_up(points: Tensor) -> Tensor:
    """Turn world axes (front +x, up +z) into glTF's (front +z, up +y): [..., 3] -> [..., 3]."""
    return points[..., [1, 2, 0]]


def to_linear(srgb: Tensor) -> Tensor:
    """Undo the sRGB transfer function (IEC 61966-2-1) of values in [0, 1]."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _trimesh(vertices: Tensor, faces: Tensor, colors: Tensor) -> Trimesh:
    from trimesh import Trimesh

    bytes_ = (colors * 255.0).round().to(torch.uint8)
    return Trimesh(vertices.numpy(), faces.numpy(), vertex_colors=bytes_.numpy(), process=False)


def _add_material(tree: dict[str, Any]) -> None:
    """Give the glTF a matte material: without one viewers assume metal, which is nearly black."""
    tree["materials"] = [{"pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0}}]
    for mesh in tree["meshes"]:
        for primitive in mesh["primitives"]:
            primitive["material"] = 0
