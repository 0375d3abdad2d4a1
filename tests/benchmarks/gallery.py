"""The README's picture: finished runs from four sides, two runs a row.

python tests/benchmarks/gallery.py RUN... --out docs/objects.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image

from dreamfusion_pl.data.orbit import orbit
from dreamfusion_pl.evaluation.finished_runs import load


def main() -> None:
    """Render every run and write the sheet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=112)
    options = parser.parse_args()
    strips = []
    for run in options.runs:
        model = load(run)
        views = orbit([20.0, 110.0, 200.0, 290.0], 15.0, 1.8, 1.2, options.size, options.size)
        with torch.no_grad():
            strips.append(torch.cat(list(model(views, needs_normals=False).rgb), dim=1))
    rows = [torch.cat(strips[i : i + 2], dim=1) for i in range(0, len(strips) - 1, 2)]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet = torch.cat(rows).clamp(0, 1)
    Image.fromarray((sheet * 255).round().byte().numpy()).save(options.out)


if __name__ == "__main__":
    main()
