"""Every distillation on points in a plane, where the data's density is known.

    python tests/benchmarks/points.py --out DIR [--only SDS CSD] [any option of fit]

``fit --config playground.yaml`` with each method, under a mixture of three Gaussians: the text "left, right"
names two of them, and the empty text all three, so that guidance has something to lead away from. Writes a
table of where 64 points end, and ``points.png``: their paths from blue to red, under the method's name.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import imageio.v3 as imageio
import torch
from tables import table
from torch import Tensor

from dreamfusion_pl.cli import main as run
from dreamfusion_pl.data.labels import label
from dreamfusion_pl.diffusion.closed_form import MixturePrior
from dreamfusion_pl.export.files.images import contact_sheet, write_png
from dreamfusion_pl.playground import Playground
from dreamfusion_pl.run_folder.layout import TRAJECTORY

D, DATA = "--model.distillation", "--model.prior.init_args.modes"
MODES = {
    "left": "{mean: [-2.0, 0.0], covariance: [[0.3, 0.1], [0.1, 0.2]], weight: 2.0}",
    "right": "{mean: [2.0, 0.5], covariance: [[0.1, 0.0], [0.0, 0.4]], weight: 1.0}",
    "top": "{mean: [0.0, 2.5], covariance: [[0.2, 0.0], [0.0, 0.2]], weight: 1.0}",
}
GUIDED = (f"{D}.guidance_scale", "1")


def _variant(name: str, *words: str) -> tuple[str, ...]:
    return (D, name, *GUIDED, *words)


METHODS = {
    "SDS, omega 0": (),
    "SDS": GUIDED,
    "SDS, t from .02 to .98": (*GUIDED, f"{D}.t_max", "0.98"),
    "SDS, FallingTimes": (*GUIDED, f"{D}.time_law", "FallingTimes"),
    "RFDS": (*GUIDED, f"{D}.weighting", "Velocity"),
    "HiFA": _variant("DenoisedPictures"),
    "CSD": _variant("ClassifierScoreDistillation"),
    "NFSD": _variant("NoiseFreeDistillation", f"{D}.negative_text", "top"),
    "SDS-Bridge": _variant("BridgeDistillation", f"{D}.source_text", "top"),
    "ASD": _variant("AsynchronousDistillation"),
    "ISM": _variant("IntervalScoreMatching"),
    "SDI": _variant("InversionDistillation"),
    "VSD of points": _variant("ParticleDistillation"),
    "L_Diff": _variant("dreamfusion_pl.distillation.parameter_space.ParameterSpaceSampling"),
}


def ends(folder: Path) -> tuple[Playground, Tensor]:
    """The playground of a run, and where its points ended, [N, 2]."""
    model = Playground.load_from_checkpoint(folder / "checkpoints" / "last.ckpt", weights_only=False)
    return model, model.parametrization().detach()[:, 0, 0]


def figures(model: Playground, points: Tensor) -> list[str]:
    """Where points [N, 2] are.

    Their shares within three standard deviations of each mode and elsewhere, their spread within the left
    mode as a share of the data's, and the mean log-density of the data at them.
    """
    prior = model.prior
    assert isinstance(prior, MixturePrior)
    gaps = points[:, None] - prior.means.float()
    solved = torch.linalg.solve(prior.covariances.float(), gaps[..., None])[..., 0]
    distances = (gaps * solved).sum(-1).sqrt()  # [N, K]
    nearest = torch.where(distances.amin(-1) < 3.0, distances.argmin(-1), len(prior.names))
    shares = [float((nearest == k).float().mean()) for k in range(len(prior.names) + 1)]
    left = points[nearest == 0]
    spread = (
        float((left.var(0).sum() / prior.covariances[0].trace()).sqrt()) if len(left) > 1 else float("nan")
    )
    density = float(model.log_density(points[..., None, None]).mean())
    return [*(f"{share:.2f}" for share in shares), f"{spread:.2f}", f"{density:.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS))
    options, more = parser.parse_known_args()
    options.out.mkdir(parents=True, exist_ok=True)
    os.chdir(options.out)
    modes = "{" + ", ".join(f"{name}: {mode}" for name, mode in MODES.items()) + "}"
    rows, pictures = [], []
    for number, name in enumerate(options.only):
        where = [
            "--trainer.logger.init_args.name",
            "",
            "--trainer.logger.init_args.version",
            f"method_{number}",
        ]
        words = ["--config", "playground.yaml", "--prompt", "left, right", DATA, modes, *where]
        if run(["fit", *words, *METHODS[name], *more]):
            print(f"{name} failed", flush=True)
            continue
        folder = Path(f"method_{number}")
        rows.append([name, *figures(*ends(folder))])
        paths = torch.from_numpy(imageio.imread(folder / TRAJECTORY)) / 255.0
        pictures.append(torch.cat([label(name, paths.shape[1]), paths]))
    header = ["method", "left", "right", "top", "elsewhere", "spread", "log-density"]
    Path("points.md").write_text(table(header, rows) + "\n", encoding="utf-8")
    write_png(contact_sheet(torch.stack(pictures), columns=min(5, len(pictures)), gap=4), Path("points.png"))
    print(table(header, rows))


if __name__ == "__main__":
    main()
