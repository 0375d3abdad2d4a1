"""How much finished runs of one prompt differ, read from their files: object.glb and turntable.gif."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dreamfusion_pl.export.surface.mesh import Mesh
from dreamfusion_pl.metrics.diversity import Diversity, Object, from_the_others
from dreamfusion_pl.metrics.solid import solid_of
from dreamfusion_pl.run_folder import layout

RESOLUTION = 48  # grid points along the longest side of a solid
FRAMES = 8  # of a turntable
_UNREADABLE = (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError)


def diversity_of(runs: Sequence[Path]) -> dict[Path, Diversity]:
    """Return the mean difference of each run from the others, of those runs whose files can be read.

    Nothing, if there are fewer than two, or if they were not filmed by the same cameras.
    """
    objects: dict[Path, Object] = {}
    for run in runs:
        try:
            objects[run] = _read(run)
        except _UNREADABLE:
            continue
    if len(objects) < 2:
        return {}
    try:
        return dict(zip(objects, from_the_others(list(objects.values())), strict=True))
    except ValueError:
        return {}


def _read(run: Path) -> Object:
    import trimesh

    surface = trimesh.load_mesh(run / layout.OBJECT, process=False)
    corners = torch.from_numpy(np.asarray(surface.vertices, dtype=np.float32))
    faces = torch.from_numpy(np.asarray(surface.faces, dtype=np.int64))
    mesh = Mesh(corners, faces, torch.zeros_like(corners))
    return Object(solid_of(mesh, RESOLUTION), _film(run / layout.TURNTABLE_GIF))


def _film(path: Path) -> Tensor:
    """Read evenly spaced frames of a film, [B, H, W, 3] in [0, 1]."""
    from PIL import Image

    with Image.open(path) as film:
        count = getattr(film, "n_frames", 1)
        frames = []
        for index in range(0, count, max(1, count // FRAMES)):
            film.seek(index)
            frames.append(np.asarray(film.convert("RGB")))
    return torch.from_numpy(np.stack(frames)) / 255.0
