"""How flat the faces of a finished cube are: the share of area whose normal lies near a face's axis.

    python tests/benchmarks/cube_faces.py RUN [RUN ...]

RUN is a finished fit of a cube of the world. Only area away from edges counts: where the two other
coordinates, in halves of the mesh's extent, are below .8. The mesh may be turned about the vertical axis; the
turn with the largest share is taken. A true cube has 100 %, a cylinder 49 %, a ball 5 %.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import trimesh

WITHIN_DEG = 10.0
INSIDE = 0.8


def flat_share(mesh: trimesh.Trimesh) -> float:
    """The share of area away from edges with a normal within 10 degrees of a face's axis, in [0, 1]."""
    return max(_share(mesh, degrees) for degrees in range(-45, 45))


def _share(mesh: trimesh.Trimesh, degrees: float) -> float:
    turn = trimesh.transformations.rotation_matrix(math.radians(degrees), [0, 1, 0])[:3, :3]
    normals, centres = mesh.face_normals @ turn.T, mesh.triangles_center @ turn.T
    low, high = (mesh.vertices @ turn.T).min(0), (mesh.vertices @ turn.T).max(0)
    place = np.abs(2.0 * (centres - low) / (high - low) - 1.0)
    axis = place.argmax(1)
    others = np.sort(place, axis=1)[:, 1]  # the larger of the two other coordinates
    counts = others < INSIDE
    cosine = np.abs(normals[np.arange(len(normals)), axis])
    flat = cosine > math.cos(math.radians(WITHIN_DEG))
    area = mesh.area_faces * counts
    return float((area * flat).sum() / area.sum())


def main() -> None:
    """Print a line for every run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+")
    options = parser.parse_args()
    for run in options.runs:
        mesh = trimesh.load(run / "object.glb", force="mesh")
        print(f"{run}: {100 * flat_share(mesh):.0f} % of the area away from edges is flat")


if __name__ == "__main__":
    main()
