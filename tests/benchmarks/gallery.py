"""The README's picture: the meshes of finished runs from some sides, shaded, in rows, with their prompts.

python tests/benchmarks/gallery.py RUN... --out docs/objects.png --sides 2 --columns 4
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from dreamfusion_pl.data.labels import label
from dreamfusion_pl.data.orbit import GRAY, orbit
from dreamfusion_pl.evaluation.finished_runs import load
from dreamfusion_pl.export.asset import Asset, make_asset
from dreamfusion_pl.export.texture.raster import render_surface
from dreamfusion_pl.run_folder.layout import PROMPT
from dreamfusion_pl.types import Views

AZIMUTHS, SAMPLES = [20.0, 110.0, 200.0, 290.0], 3  # degrees; samples along a pixel's side
LIGHT, AMBIENT = torch.tensor([-0.4, 0.7, 0.6]), 0.5  # towards the light: right, up and back of the camera


def strip(asset: Asset, size: int, sides: int) -> Tensor:
    """The mesh from the first n sides, [H, n W, 3] in [0, 1]."""
    views = orbit(AZIMUTHS[:sides], 15.0, 1.8, 1.2, SAMPLES * size, SAMPLES * size)
    pictures = []
    for index in range(sides):
        view = Views(*(field[index : index + 1] for field in views))
        albedo, covered = render_surface(asset.charts, asset.texture, view)
        albedo = torch.where(covered[..., None], albedo * brightness(asset, view), albedo)[0]
        pictures.append(albedo.reshape(size, SAMPLES, size, SAMPLES, 3).mean(dim=(1, 3)))
    return torch.cat(pictures, dim=1)


def labelled(run: Path, text: str, size: int, sides: int) -> Tensor:
    """The strip of a run, and a text below, [H, n W, 3] in [0, 1]."""
    return torch.cat([strip(make_asset(load(run).scene), size, sides), label(text, size * sides, GRAY)])


def brightness(asset: Asset, view: Views) -> Tensor:
    """Lambertian shading with the mesh's normals, [1, H, W, 3]: a ramp that is looked up like a texture."""
    toward = view.rotation[0] @ (LIGHT / LIGHT.norm())
    diffuse = (asset.charts.normals @ toward).clamp(0.0, 1.0)
    charts = asset.charts._replace(uv=torch.stack([diffuse, torch.full_like(diffuse, 0.5)], dim=1))
    ramp = torch.linspace(AMBIENT, 1.15, 256)[None, :, None].expand(2, 256, 3)
    return render_surface(charts, ramp, view)[0]


def main() -> None:
    """Mesh and draw every run, and write the sheet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--sides", type=int, default=len(AZIMUTHS), choices=range(1, len(AZIMUTHS) + 1))
    parser.add_argument("--columns", type=int, default=2, help="runs in a row")
    parser.add_argument("--labels", nargs="+", help="a text for each run in place of its prompt")
    options = parser.parse_args()
    labels = options.labels or [(run / PROMPT).read_text(encoding="utf-8").strip() for run in options.runs]
    strips = [
        labelled(run, text, options.size, options.sides)
        for run, text in zip(options.runs, labels, strict=True)
    ]
    while len(strips) % options.columns:
        strips.append(torch.full_like(strips[0], GRAY[0]))
    starts = range(0, len(strips), options.columns)
    rows = [torch.cat(strips[start : start + options.columns], dim=1) for start in starts]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet = torch.cat(rows).clamp(0, 1)
    Image.fromarray((sheet * 255).round().byte().numpy()).save(options.out)


if __name__ == "__main__":
    main()
