"""The paper's statements about guidance, w(t) and the parts of the method, tested by fitting objects.

    python tests/benchmarks/fitted_statements.py guidance|weighting|ablation --out runs [--seeds 3] [--jobs 2]

Every object is made by the command that a user types; finished ones are not repeated, and variants with the
same options share them. Each statement prints a table and writes it into ``--out``; ``ablation`` also draws
``ablation.png``: a column for each part that is added and the true object last, in colour and without
texture.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import NamedTuple

import torch
from fits import Fit, run_fits
from tables import spread, table
from torch import Tensor

from dreamfusion_pl.data.world.captions import parse
from dreamfusion_pl.data.world.tracer import render_world
from dreamfusion_pl.diffusion.noise import SigmaSquared, Uniform
from dreamfusion_pl.evaluation.finished_runs import judged_views, load, pictures
from dreamfusion_pl.evaluation.ground_truth import judge
from dreamfusion_pl.export.files.images import contact_sheet, enlarge, write_png
from dreamfusion_pl.metrics.classifier import load_classifier
from dreamfusion_pl.metrics.recognition import recognized

PROMPTS = ("a red mushroom", "a cyan duck", "a yellow bus")
BARE = Path(__file__).parent / "bare.yaml"
OMEGAS = (0, 1, 4, 16, 64)
SHOWN = 1  # which of the paper's azimuths the figure shows: half left


class Study(NamedTuple):
    """Where and how objects are fitted."""

    out: Path
    seeds: int
    jobs: int
    steps: int

    def fit(self, options: tuple[str, ...], prompt: str, seed: int) -> Fit:
        """The run of a variant; its folder is named after its options."""
        label = "_".join(word.rsplit(".", 1)[-1].strip("[]") for word in options).replace(", ", "-")
        folder = self.out / "fits" / (label or "default") / f"{prompt.replace(' ', '_')}_{seed}"
        steps = ("--config", str(BARE), "--trainer.max_steps", str(self.steps))
        return Fit(prompt, seed, folder, (*steps, *options))

    def fits(self, options: tuple[str, ...]) -> list[list[Fit]]:
        """The runs of a variant: for every seed one of each prompt."""
        return [[self.fit(options, prompt, seed) for prompt in PROMPTS] for seed in range(self.seeds)]


class Scores(NamedTuple):
    """What a result is worth, in [0, 1]."""

    object: float  # named by the world classifier from 8 azimuths at elevation 30
    color: float
    bare: float  # the object named without texture
    iou: float


def score(fit: Fit) -> Scores:
    """Judge one run."""
    model, scene, judge_of = load(fit.folder), parse(fit.prompt), load_classifier()
    assert scene is not None, fit.prompt
    item = scene.items[0]
    seen, bare = (pictures(model, judged_views(8, 30.0, 64, textureless)) for textureless in (False, True))
    named = recognized(judge_of, seen, item.object, item.color)
    geometry = recognized(judge_of, bare, item.object, item.color)[0]
    return Scores(float(named[0]), float(named[1]), float(geometry), judge(model, scene).iou)


def study(where: Study, variants: dict[str, tuple[str, ...]], label: str) -> str:
    """Fit every variant, prompt and seed; tabulate."""
    fits = {name: where.fits(options) for name, options in variants.items()}
    run_fits([fit for seeds in fits.values() for row in seeds for fit in row], where.jobs)
    rows = []
    for name, seeds in fits.items():
        means = [Scores(*map(statistics.mean, zip(*map(score, row), strict=True))) for row in seeds]
        shares = [spread([100.0 * value for value in column], 0) for column in zip(*means, strict=True)][:3]
        rows.append([name, *shares, spread([mean.iou for mean in means], 3)])
        print(rows[-1], flush=True)
    return table([label, "object, %", "colour, %", "object without texture, %", "IoU"], rows)


def guidance(where: Study) -> str:
    """(c) Object and colour recognized against omega."""
    flag = "--model.distillation.guidance_scale"
    return study(where, {str(omega): (flag, str(omega)) for omega in OMEGAS}, "omega")


def weighting(where: Study) -> str:
    """(d) w(t) = sigma^2 against uniform."""
    scale = ("--model.distillation.guidance_scale", "6")
    flag = "--model.distillation.weighting"
    variants = {
        SigmaSquared.__name__: scale,
        Uniform.__name__: (*scale, flag, f"dreamfusion_pl.diffusion.noise.{Uniform.__name__}"),
    }
    return study(where, variants, "w(t)")


def ablation(where: Study) -> str:
    """(e) Figure 6: wide views, view-dependent prompts, lighting, textureless renders, each added in turn."""
    scale = ("--model.distillation.guidance_scale", "6")
    narrow, nameless = ("--data.elevation_deg", "[0, 30]"), ("--model.prompts.directions", "0")
    unlit, white = ("--data.shaded_probability", "0"), ("--data.textureless_probability", "0.5")
    variants = {
        "narrow views, albedo only": (*scale, *narrow, *nameless, *unlit),
        "+ wide views": (*scale, *nameless, *unlit),
        "+ view-dependent prompts": (*scale, *unlit),
        "+ lighting": scale,
        "+ textureless renders": (*scale, *white),
    }
    text = study(where, variants, "what is on")
    rows: list[Tensor] = []
    for prompt in PROMPTS:
        for textureless in (False, True):
            runs = [where.fit(options, prompt, 0) for options in variants.values()]
            rows += [_picture(run, textureless) for run in runs]
            rows.append(_truth(prompt, textureless))
    sheet = contact_sheet(enlarge(torch.stack(rows), 128), columns=len(variants) + 1)
    write_png(sheet, where.out / "ablation.png")
    return text


def _picture(run: Fit, textureless: bool) -> Tensor:
    return pictures(load(run.folder), judged_views(8, 30.0, 64, textureless))[SHOWN]


def _truth(prompt: str, textureless: bool) -> Tensor:
    scene, views = parse(prompt), judged_views(8, 30.0, 64, textureless)
    assert scene is not None, prompt
    return render_world(scene, views).over(views.background)[SHOWN]


STATEMENTS = {f.__name__: f for f in (guidance, weighting, ablation)}


def main() -> None:
    """Test one statement and write its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("statement", choices=STATEMENTS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    where = Study(options.out, options.seeds, options.jobs, options.steps)
    text = STATEMENTS[options.statement](where)
    (options.out / f"{options.statement}.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
