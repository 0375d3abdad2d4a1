"""The paper's statements about the loss, tested on closed-form priors and on pictures under the embedded one.

    python tests/benchmarks/statements.py modes|jacobian --out runs [--seeds 3]

Each takes minutes, prints a table and writes it into ``--out``; ``modes`` also draws ``modes.png``. The
statements that need whole objects are in ``fitted_statements.py``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tables import spread, table
from torch import Tensor

from dreamfusion_pl.data.world.captions import parse
from dreamfusion_pl.diffusion.closed_form import MixturePrior, Mode
from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior
from dreamfusion_pl.diffusion.noise import SigmaSquared
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.distillation.base import Distillation
from dreamfusion_pl.distillation.parameter_space import ParameterSpaceSampling
from dreamfusion_pl.distillation.sds import ScoreDistillation
from dreamfusion_pl.export.files.images import contact_sheet, write_png
from dreamfusion_pl.metrics.classifier import load_classifier
from dreamfusion_pl.metrics.recognition import recognized
from dreamfusion_pl.rng import generator
from dreamfusion_pl.scene.pictures import MLPPicture
from dreamfusion_pl.types import Condition

PROMPTS = ("a red mushroom", "a green cone", "a white snowman", "a blue mug")
LEFT, RIGHT = (-2.0, 0.0), (2.0, 0.0)
ROUND = ((0.1, 0.0), (0.0, 0.1))


def descend(
    prior: DiffusionPrior,
    distillation: Distillation,
    parameters: list[Tensor],
    generate: Callable[[], Tensor],
    condition: Condition,
    steps: int,
    rate: float,
    seed: int,
) -> float:
    """Minimize with Adam; return the seconds of a step, the first ones left out."""
    optimizer = torch.optim.Adam(parameters, rate)
    times = []
    for step in range(steps):
        start = time.perf_counter()
        optimizer.zero_grad()
        draws = generator(seed, "distillation", step=step)
        distillation(prior.encode(generate(), 0.0), condition, prior, step / steps, draws).total.backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
    return statistics.median(times[steps // 10 :])


def modes(out: Path, seeds: int) -> str:
    """(b) Where SDS goes on a mixture of two Gaussians, the left one with two thirds of the data."""
    prior = MixturePrior({"left": Mode(LEFT, ROUND, 2.0), "right": Mode(RIGHT, ROUND, 1.0)})
    centres = torch.tensor([LEFT, RIGHT])
    rows, maps = [], []
    for t_max in (0.98, 0.5, 0.2):
        shares, distances, spreads = [], [], []
        for seed in range(seeds):
            start = 2.0 * torch.randn(256, 1, 1, 2, generator=generator(seed, "start"))
            theta = torch.nn.Parameter(start)
            condition = Condition(prior.embed([""]).expand(256), prior.embed([""]))
            sds = ScoreDistillation(0.0, SigmaSquared(), 0.02, t_max)
            descend(prior, sds, [theta], lambda theta=theta: theta, condition, 1500, 0.02, seed)
            gaps = (theta.detach()[:, 0, 0, None] - centres).norm(dim=-1)
            nearest = gaps.argmin(-1)
            shares.append(float((nearest == 0).float().mean()))
            distances.append(float(gaps.amin(-1).median()))
            spreads.append(float(theta.detach()[:, 0, 0][nearest == 0].std(0).mean()))
        maps.append(scatter(theta.detach()[:, 0, 0]))
        rows.append([f"[.02, {t_max}]", spread(shares), spread(distances), spread(spreads)])
    write_png(contact_sheet(torch.stack(maps), columns=len(maps), gap=4), out / "modes.png")
    header = ["t", "share at the left mode", "median distance to the mode", "spread around it"]
    note = "Samples of this prior would have share 0.67 and spread 0.32."
    return f"{table(header, rows)}\n\n{note}"


def scatter(points: Tensor, side: int = 192) -> Tensor:
    """Draw points [N, 2] in red over the density of the data in gray: [side, side, 3]."""
    axis = torch.linspace(-4.0, 4.0, side)
    height, width = torch.meshgrid(-axis, axis, indexing="ij")
    where = torch.stack([width, height], dim=-1)
    density = torch.zeros(side, side)
    for centre, share in ((LEFT, 2.0), (RIGHT, 1.0)):
        density += share * (-(where - torch.tensor(centre)).square().sum(-1) / 0.2).exp()
    picture = (1.0 - 0.5 * density / density.max()).unsqueeze(-1).repeat(1, 1, 3)
    for x, y in ((points + 4.0) / 8.0 * (side - 1)).round().long().clamp(1, side - 2).tolist():
        row = side - 1 - y
        picture[row - 1 : row + 2, x - 1 : x + 2] = torch.tensor([0.85, 0.1, 0.1])
    return picture


def jacobian(out: Path, seeds: int) -> str:
    """(a, f) L_Diff with the U-Net's Jacobian against SDS, on pictures under the embedded prior."""
    prior, judge_of = PretrainedPrior(), load_classifier()
    rows = []
    for name, make in (("SDS", ScoreDistillation), ("L_Diff", ParameterSpaceSampling)):
        for omega in (0.0, 4.0):
            objects, colors, costs = [], [], []
            for seed in range(seeds):
                right = []
                for prompt in PROMPTS:
                    picture = MLPPicture(prior.resolution, seed=seed)
                    condition = Condition(prior.embed([prompt]).expand(4), prior.embed([""]))
                    distillation = make(omega, SigmaSquared(), 0.02, 0.98)
                    costs.append(
                        descend(
                            prior,
                            distillation,
                            list(picture.parameters()),
                            lambda picture=picture: picture().expand(4, -1, -1, -1),
                            condition,
                            300,
                            5e-3,
                            seed,
                        )
                    )
                    item = parse(prompt).items[0]
                    right.append(recognized(judge_of, picture().detach(), item.object, item.color))
                objects.append(100 * statistics.mean(float(r[0]) for r in right))
                colors.append(100 * statistics.mean(float(r[1]) for r in right))
            cost = f"{1000 * statistics.median(costs):.0f} ms"
            rows.append([name, f"{omega:g}", spread(objects, 0), spread(colors, 0), cost])
    return table(["loss", "omega", "object right, %", "colour right, %", "a step"], rows)


STATEMENTS = {f.__name__: f for f in (modes, jacobian)}


def main() -> None:
    """Test one statement and write its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("statement", choices=STATEMENTS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    text = STATEMENTS[options.statement](options.out, options.seeds)
    (options.out / f"{options.statement}.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
