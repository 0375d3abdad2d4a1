"""What would a perfect prior make, and what do the names of views leave open?

    python tests/benchmarks/named_views.py --out DIR --prompts "a red chair" --directions 8 48

Fits have the prior of exact_prior.py, so that nothing is left to its training. What differs between two
numbers of directions is what the names of views leave open; what is left to the truth is due to the scene
and the distillation. Everything else is the default configuration; other words are options of every fit.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from exact_prior import trace_pictures
from fits import Fit, is_finished, run_fits
from tables import table

from dreamfusion_pl.evaluation.finished_runs import load
from dreamfusion_pl.evaluation.ground_truth import judge_result
from dreamfusion_pl.evaluation.run_settings import settings_of


def words(file: Path, directions: int) -> tuple[str, ...]:
    """The options of ``fit``."""
    return (
        "--model.prior=exact_prior.ExactPrior",
        f"--model.prior.file={file}",
        "--model.background=exact_prior.Gray",
        f"--model.prompts.directions={directions}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--prompts", nargs="+", default=["a red chair"], help="prompts of the world")
    parser.add_argument("--directions", nargs="+", type=int, choices=(8, 48), default=(8, 48))
    parser.add_argument("--pictures", type=int, default=12_000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    options, fit_options = parser.parse_known_args()
    places = (str(Path(__file__).parent), os.environ.get("PYTHONPATH", ""))
    os.environ["PYTHONPATH"] = os.pathsep.join(places)  # where a fit finds ExactPrior
    rows = []
    for prompt in options.prompts:
        name = prompt.replace(" ", "_")
        file = options.out.absolute() / f"{name}_{options.pictures}.pt"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            trace_pictures(prompt, options.pictures, file)
        for directions in options.directions:
            fits = [
                Fit(
                    prompt,
                    seed,
                    options.out / f"{name}_{directions}_{seed}",
                    (*words(file, directions), *fit_options),
                )
                for seed in range(options.seeds)
            ]
            run_fits(fits, options.jobs)
            for fit in filter(is_finished, fits):
                model = load(fit.folder, trusted=True)
                found = judge_result(model, prompt, settings_of(fit.folder))
                figures = (found.iou, found.f_score, found.normal_consistency, found.albedo_error)
                rows.append(
                    [prompt, str(directions), str(fit.seed), *(f"{figure:.3f}" for figure in figures)]
                )
    print(table(["prompt", "directions", "seed", "IoU", "F-score", "normals", "albedo error"], rows))


if __name__ == "__main__":
    main()
