"""The paper's statements, tested on closed-form priors and on the embedded one.

    python tests/benchmarks/statements.py modes|jacobian|guidance|weighting|ablation --out runs [--seeds 3]

``modes`` and ``jacobian`` take a minute. The others fit objects by the command that a user types (about a
minute each on two cores): ``--jobs 2`` runs two at a time, and finished ones are not repeated. Each prints a
table and writes it into ``--out``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from fits import Fit, is_finished, run_fits
from torch import Tensor

from dreamfusion_pl.data.world.captions import parse
from dreamfusion_pl.diffusion.closed_form import MixturePrior, Mode
from dreamfusion_pl.diffusion.noise import SigmaSquared, Uniform
from dreamfusion_pl.diffusion.pretrained import PretrainedPrior
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.distillation.base import Distillation
from dreamfusion_pl.distillation.parameter_space import ParameterSpaceSampling
from dreamfusion_pl.distillation.sds import ScoreDistillation
from dreamfusion_pl.evaluation.judgement import judge
from dreamfusion_pl.evaluation.runs import judged_views, load, pictures
from dreamfusion_pl.metrics.classifier import load_classifier
from dreamfusion_pl.metrics.recognition import recognized
from dreamfusion_pl.rng import generator
from dreamfusion_pl.scene.pictures import MLPPicture
from dreamfusion_pl.types import Condition

PROMPTS = ("a red mushroom", "a green cone", "a white snowman", "a blue mug")
LEFT, RIGHT = (-2.0, 0.0), (2.0, 0.0)
ROUND = ((0.1, 0.0), (0.0, 0.1))


def spread(values: list[float], digits: int = 2) -> str:
    """Mean and standard deviation over seeds."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits}f} ± {deviation:.{digits}f}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


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
        distillation(prior.encode(generate(), 0.0), condition, prior, step / steps, draws).backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
    return statistics.median(times[steps // 10 :])


def modes(out: Path, seeds: int, jobs: int) -> str:
    """(b) Where SDS goes on a mixture of two Gaussians, the left one with two thirds of the data."""
    prior = MixturePrior({"left": Mode(LEFT, ROUND, 2.0), "right": Mode(RIGHT, ROUND, 1.0)})
    centres = torch.tensor([LEFT, RIGHT])
    rows = []
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
        rows.append([f"[.02, {t_max}]", spread(shares), spread(distances), spread(spreads)])
    header = ["t", "share at the left mode", "median distance to the mode", "spread around it"]
    note = "Samples of this prior would have share 0.67 and spread 0.32."
    return f"{table(header, rows)}\n\n{note}"


def jacobian(out: Path, seeds: int, jobs: int) -> str:
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


def fitted(out: Path, variants: dict[str, tuple[str, ...]], seeds: int, jobs: int, label: str) -> str:
    """Fit every variant, prompt and seed; tabulate what is recognized, and geometry."""
    fits = {
        name: [
            [Fit(p, s, out / name.replace(" ", "_") / f"{p.replace(' ', '_')}_{s}", options) for p in PROMPTS]
            for s in range(seeds)
        ]
        for name, options in variants.items()
    }
    run_fits([fit for rows in fits.values() for row in rows for fit in row], jobs)
    judge_of, rows = load_classifier(), []
    for name, by_seed in fits.items():
        columns: list[list[float]] = [[], [], [], []]
        for row in by_seed:
            scores = [_scores(fit, judge_of) for fit in row if is_finished(fit)]
            for column, values in zip(columns, zip(*scores, strict=True), strict=True):
                column.append(statistics.mean(values))
        shares = [spread([100 * v for v in column], 0) for column in columns[:3]]
        rows.append([name, *shares, spread(columns[3])])
    return table([label, "object, %", "colour, %", "object without texture, %", "IoU"], rows)


def _scores(fit: Fit, judge_of) -> tuple[float, float, float, float]:
    model, scene = load(fit.folder), parse(fit.prompt)
    item = scene.items[0]
    seen, bare = (pictures(model, judged_views(8, 30.0, 64, textureless)) for textureless in (False, True))
    named = recognized(judge_of, seen, item.object, item.color)
    geometry = recognized(judge_of, bare, item.object, item.color)[0]
    return float(named[0]), float(named[1]), float(geometry), judge(model, scene).iou


def guidance(out: Path, seeds: int, jobs: int) -> str:
    """(c) Object and colour recognized against omega."""
    variants = {
        f"{w:g}": ("--model.distillation.guidance_scale", str(w))
        for w in (0.0, 2.0, 4.0, 8.0, 16.0, 40.0, 100.0)
    }
    return fitted(out / "guidance", variants, seeds, jobs, "omega")


def weighting(out: Path, seeds: int, jobs: int) -> str:
    """(d) w(t) = sigma^2 against uniform."""
    flag = "--model.distillation.weighting"
    variants = {
        kind.__name__: (flag, f"dreamfusion_pl.diffusion.noise.{kind.__name__}")
        for kind in (SigmaSquared, Uniform)
    }
    return fitted(out / "weighting", variants, seeds, jobs, "w(t)")


def ablation(out: Path, seeds: int, jobs: int) -> str:
    """(e) Figure 6: wide views, view-dependent prompts, lighting, textureless renders, each added in turn."""
    narrow = ("--data.elevation_deg", "[0, 30]")
    plain, unlit = ("--model.directions", "0"), ("--data.shaded_probability", "0")
    textured = ("--data.textureless_probability", "0")
    variants = {
        "narrow views, albedo": (*narrow, *plain, *unlit),
        "+ wide views": (*plain, *unlit),
        "+ view-dependent prompts": unlit,
        "+ lighting": textured,
        "+ textureless": (),
    }
    return fitted(out / "ablation", variants, seeds, jobs, "what is on")


STATEMENTS = {f.__name__: f for f in (modes, jacobian, guidance, weighting, ablation)}


def main() -> None:
    """Test one statement and write its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("statement", choices=STATEMENTS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    text = STATEMENTS[options.statement](options.out, options.seeds, options.jobs)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{options.statement}.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
