"""Distillation methods side by side on true geometry: the same prompts, seeds and budgets.

    python tests/benchmarks/leaderboard.py --out DIR [--jobs 2] [--prompts 16] [--seeds 2] [--only CSD]

Every method runs as the default configuration with its distillation in place of SDS (``METHODS``). With
``--equal calls`` it asks the prior for as many predictions as SDS does in 400 steps, a row of a call counted
once; with ``--equal seconds`` it has as many steps as fit into the time that SDS needs, from a timing of each
method. Schedules are functions of progress, so that they keep their shape. Writes a table, a picture with
methods from top to bottom and prompts from left to right, and the figures as JSON, to which a later call with
other methods adds. Finished fits are not repeated. Other words are options of every fit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from pathlib import Path
from typing import Any, NamedTuple

import imageio.v3 as imageio
import numpy as np
import torch
from fits import Fit, is_finished, run_fits
from tables import spread, table

from dreamfusion_pl.evaluation.ground_truth import judge_result
from dreamfusion_pl.export.files.images import write_png

STEPS = 400  # of SDS
TIMING = (40, 120)  # steps
TUNED = ("a red chair", "a brown table")  # prompts on which settings were chosen, none of those below
PROMPTS = (
    "a yellow duck",
    "a green car",
    "a blue mug",
    "a white house",
    "a purple donut",
    "a brown teddy bear",
    "a gray rocket",
    "a red mushroom",
    "an orange castle",
    "a pink airplane",
    "a black cat",
    "a green sofa",
    "a cyan boat",
    "a yellow lamp",
    "a brown bookshelf",
    "a white lighthouse",
)
D = "--model.distillation"


class Method(NamedTuple):
    """One row of the board."""

    words: tuple[str, ...]  # in place of SDS
    rows: float  # rows of the network's calls per view and step; SDS with guidance has 2
    note: str = ""


def _variant(name: str, *words: str) -> tuple[str, ...]:
    return (D, name, f"{D}.guidance_scale", "6", *words)


FALLING = (f"{D}.time_law", "FallingTimes")  # from .98 on
METHODS = {
    "SDS": Method((), 2),
    "SDS, two draws": Method((f"{D}.draws", "2"), 4),
    "SDS, rescaled": Method((f"{D}.adjustment", "Rescale"), 2),
    "SDS, clipped": Method((f"{D}.adjustment", "Clip", f"{D}.adjustment.bound", "2"), 2),
    "DreamTime": Method((f"{D}.time_law", "PriorWeightedTimes", f"{D}.time_law.center", "0.5"), 2),
    "HiFA": Method(_variant("DenoisedPictures", *FALLING), 2, "one step"),
    "SIR": Method(_variant("IterativeReconstruction", *FALLING), 1, "two passes"),
    "CSD": Method(_variant("ClassifierScoreDistillation"), 2),
    "NFSD": Method(_variant("NoiseFreeDistillation", f"{D}.negative_text", "a gray ball"), 3, "gray ball"),
    "SDS-Bridge": Method(_variant("BridgeDistillation", f"{D}.source_text", "a gray {}"), 3, "from gray"),
    "ASD": Method(_variant("AsynchronousDistillation"), 3),
    "ISM": Method(_variant("IntervalScoreMatching"), 7.5, "inversion of 4 or 5 steps"),
    "SDI": Method(_variant("InversionDistillation", *FALLING, f"{D}.steps", "3"), 8, "inversion of 3 steps"),
    "VSD": Method(_variant("VariationalDistillation"), 6, "its own training counted three times"),
}


def steps_by_calls(method: Method) -> int:
    """Steps in which a method asks for as many rows as SDS."""
    return max(1, round(STEPS * METHODS["SDS"].rows / method.rows))


def steps_by_seconds(name: str, out: Path, more: list[str]) -> int:
    """Steps that a method does in the time that SDS needs; each is timed alone, with one thread.

    The time of a step is the difference of two lengths, so that start, film and mesh do not count.
    """
    seconds = {}
    for one in ("SDS", name):
        words = (*METHODS[one].words, *more)
        fits = [Fit("a red chair", 0, out / "timing" / f"{one} {n}", (*words, *_length(n))) for n in TIMING]
        run_fits(fits[:1], jobs=os.cpu_count() or 1)
        run_fits(fits[1:], jobs=os.cpu_count() or 1)
        short, long = (
            json.loads((fit.folder / "status.json").read_text(encoding="utf-8"))["seconds"] for fit in fits
        )
        seconds[one] = (long - short) / (TIMING[1] - TIMING[0])
    return max(1, round(STEPS * seconds["SDS"] / seconds[name]))


def _length(steps: int) -> tuple[str, ...]:
    return (
        f"--trainer.max_steps={steps}",
        f"--trainer.val_check_interval={steps}",
        "--data.num_test_views=8",
    )


def figures(fit: Fit) -> dict[str, Any]:
    """What is measured of one object."""
    status = json.loads((fit.folder / "status.json").read_text(encoding="utf-8"))
    judged = judge_result(fit.folder)._asdict()
    return {
        "prompt": fit.prompt,
        "seed": fit.seed,
        "steps": status["step"],
        "seconds": status["seconds"],
        **{name: None if value != value else value for name, value in judged.items()},  # JSON has no NaN
    }


def front(fit: Fit) -> np.ndarray:
    """The first frame of the turntable, [H, W, 3] in [0, 1]."""
    return imageio.imread(fit.folder / "turntable.gif", index=0)[..., :3].astype(np.float32) / 255.0


def diversity(fits: list[Fit]) -> float:
    """Mean absolute difference between the first frames of seeds of the same prompt, in [0, 1]."""
    found = []
    for prompt in dict.fromkeys(fit.prompt for fit in fits):
        pictures = [front(fit) for fit in fits if fit.prompt == prompt]
        found += [float(np.abs(a - b).mean()) for i, a in enumerate(pictures) for b in pictures[i + 1 :]]
    return statistics.mean(found) if found else 0.0


def line(name: str, method: Method, rows: list[dict[str, Any]], fits: list[Fit]) -> list[str]:
    """One row of the board: means and standard deviations over prompts and seeds."""

    def over(key: str, digits: int = 2) -> str:
        values = [float(row[key]) for row in rows if row[key] is not None]
        return spread(values, digits) if values else "-"

    def share(key: str) -> str:
        return f"{100 * statistics.mean(float(row[key]) for row in rows):.0f} %"

    steps, calls = rows[0]["steps"], round(rows[0]["steps"] * method.rows)
    measured = [
        over(key) for key in ("iou", "f_score", "normal_consistency", "albedo_error", "saturation_bias")
    ]
    looks = [share("named"), share("color"), share("backwards")]
    return [
        name + (f" ({method.note})" if method.note else ""),
        *measured,
        *looks,
        f"{diversity(fits):.3f}",
        str(steps),
        str(calls),
        over("seconds", 0),
    ]


HEADER = ["method", "IoU", "F-score", "normals", "albedo error", "saturation bias", "named", "colour"]
HEADER += ["backwards", "diversity", "steps", "calls per view", "seconds"]


def main() -> None:
    """Run what is missing, judge everything, write the board."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--equal", choices=("calls", "seconds"), default="calls")
    parser.add_argument("--only", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--prompts", type=int, default=len(PROMPTS), help="the first of the prompts")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2, help="fits at a time")
    options, more = parser.parse_known_args()
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / f"{options.equal}.json"
    board = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    lines, strips = [], []
    for name in options.only:
        steps = steps_by_calls(METHODS[name])
        if options.equal == "seconds":
            steps = steps_by_seconds(name, options.out, more)
        place = options.out / name / " ".join([str(steps), *more]).replace("/", "_")
        words = (*METHODS[name].words, *_length(steps), *more)
        fits = [
            Fit(prompt, seed, place / f"{prompt} {seed}".replace(" ", "_"), words)
            for prompt in PROMPTS[: options.prompts]
            for seed in range(options.seeds)
        ]
        run_fits(fits, options.jobs)
        done = [fit for fit in fits if is_finished(fit)]
        if not done:
            continue
        board[name] = [figures(fit) for fit in done]
        lines.append(line(name, METHODS[name], board[name], done))
        strips.append(np.concatenate([front(fit) for fit in done if fit.seed == 0], axis=1))
        print(table(HEADER, lines[-1:]), flush=True)
        kept.write_text(json.dumps(board, indent=1), encoding="utf-8")
        (options.out / f"{options.equal}.md").write_text(table(HEADER, lines) + "\n", encoding="utf-8")
        write_png(options.out / f"{options.equal}.png", torch.from_numpy(stacked(strips)))
    print(table(HEADER, lines))


def stacked(strips: list[np.ndarray]) -> np.ndarray:
    """Strips [H, W, 3] of different widths one below the other, white where there is none."""
    widest = max(strip.shape[1] for strip in strips)
    return np.concatenate(
        [np.pad(s, ((0, 0), (0, widest - s.shape[1]), (0, 0)), constant_values=1.0) for s in strips]
    )


if __name__ == "__main__":
    main()
