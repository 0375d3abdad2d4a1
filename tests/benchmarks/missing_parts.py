"""What the prior asks for where a result lacks a part of the true object, or fills a hole of it.

    python tests/benchmarks/missing_parts.py RUN [--omega 6] [--copies 48]

RUN is a finished fit of an object of the world, such as a mug or a donut. From five sides the prior denoises
the result's picture and the true one at several t. The mean over noise of what it would change is projected
on the step from the result to the truth, over the pixels of missing parts and filled holes. The first figure
is the result's (1: it is asked for the whole truth, 0: for nothing), the second the truth's (-1: all of it
is taken away).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from scipy.ndimage import binary_fill_holes
from tables import table
from torch import Tensor

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.data.orbit import orbit
from dreamfusion_pl.data.world.captions import parse
from dreamfusion_pl.data.world.tracer import render_world
from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior
from dreamfusion_pl.diffusion.noise import per_row
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.diffusion.text.prompts import ViewDependentPrompts
from dreamfusion_pl.evaluation.finished_runs import load
from dreamfusion_pl.rng import generator
from dreamfusion_pl.types import Condition, Views

SIDES = ((78.0, 0.0), (55.0, 0.0), (10.0, 0.0), (10.0, 45.0), (10.0, 180.0))  # elevation, azimuth in degrees
BACKGROUNDS = ((0.9, 0.9, 0.8), (0.1, 0.35, 0.15))
TIMES = (0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 0.96)


def denoised(prior: DiffusionPrior, z: Tensor, condition: Condition, t: float, omega: float) -> Tensor:
    """The mean picture [3, h, w] that the prior makes of ``z`` [K, 3, h, w] under K draws of noise."""
    times, eps = torch.full((len(z),), t), torch.randn(z.shape, generator=generator(0, "noise"))
    z_t = prior.schedule.diffuse(z, eps, times)
    eps_hat = prior.guided(z_t, times, condition, omega)
    alpha, sigma = per_row(prior.schedule.alpha(times)), per_row(prior.schedule.sigma(times))
    return ((z_t - sigma * eps_hat) / alpha).mean(0)


def lacking(result: Tensor, truth: Tensor) -> Tensor:
    """Pixels of missing parts and filled holes, all [1, H, W] bool; a hole lies within the outline."""
    enclosed = torch.from_numpy(binary_fill_holes(truth[0].numpy()))[None] & ~truth
    return (truth & ~result) | (enclosed & result)


@torch.no_grad()
def asked(model: DreamFusion, prior: DiffusionPrior, views: Views, omega: float, copies: int) -> list[str]:
    """A row of the table: pixels that differ, and at every t what is asked of the result and of the truth."""
    scene = parse(model.prompt)
    assert scene is not None, model.prompt
    result, drawing = model(views, needs_normals=False), render_world(scene, views)
    differs = lacking(result.opacity.reshape(drawing.alpha.shape) > 0.5, drawing.alpha > 0.5)
    pictures = [prior.encode(rgb, 1.0) for rgb in (result.rgb, drawing.over(views.background))]
    step = (pictures[1] - pictures[0]) * differs[:, None]
    if not differs.any():
        return ["0", *[""] * len(TIMES)]
    condition = ViewDependentPrompts(directions=48).embed(prior, model.prompt)(views)
    condition = Condition(condition.text.expand(copies), condition.null)
    cells = []
    for t in TIMES:
        shares = []
        for z in pictures:
            change = denoised(prior, z.expand(copies, -1, -1, -1), condition, t, omega) - z[0]
            shares.append(f"{float((change * step[0]).sum() / step.square().sum()):+.2f}")
        cells.append(", ".join(shares))
    return [f"{int(differs.sum())}", *cells]


def main() -> None:
    """Print the table of one run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--omega", type=float, default=6.0)
    parser.add_argument("--copies", type=int, default=48, help="draws of noise")
    options = parser.parse_args()
    model, prior = load(options.run), PretrainedPrior(dtype="float32")
    rows = []
    for elevation, azimuth in SIDES:
        for background in BACKGROUNDS:
            views = orbit([azimuth], elevation, 1.5, 1.2, prior.resolution, prior.resolution, background)
            label = f"{elevation:g}, {azimuth:g} on {background}"
            rows.append([label, *asked(model, prior, views, options.omega, options.copies)])
    print(model.prompt)
    print(table(["elevation, azimuth", "pixels", *[f"t {t:g}" for t in TIMES]], rows))


if __name__ == "__main__":
    main()
