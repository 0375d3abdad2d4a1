"""Distillation methods side by side on true geometry: the same prompts, seeds and budgets.

    python tests/benchmarks/leaderboard.py search --out DIR [--jobs 2] [--only CSD]
    python tests/benchmarks/leaderboard.py calls --out DIR [--prompts 16] [--seeds 2]
    python tests/benchmarks/leaderboard.py seconds --out DIR

Every method of ``methods.METHODS`` runs as ``draft.yaml`` with its distillation in place of SDS. The budget
is that of 200 steps of SDS. ``search`` tries a few settings of each method on prompts that are not on the
board; the best one's name goes into ``METHODS``. With ``calls`` a method asks the prior for as many
predictions as SDS does, a row of a call counted once; with ``seconds`` it has as many steps as fit into the
time that SDS needs, from a timing of each method. Where that is within 15 % of the number by calls, the same
fits serve. Schedules are functions of progress, so that they keep their shape. ``--settings paper`` takes
those of the papers in place of the best. Writes a table, a picture with methods from top to bottom and
prompts from left to right, and the figures as JSON. Finished fits are not repeated. Other words are options
of every fit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from pathlib import Path
from typing import Any, NamedTuple

import imageio.v3 as imageio
import torch
import torch.nn.functional as F
from fits import Fit, run_and_judge, run_fits, seconds_of
from methods import METHODS, Method, candidates
from tables import spread, table
from torch import Tensor

from dreamfusion_pl.data.labels import label, label_width
from dreamfusion_pl.export.files.images import write_png

STEPS = 200  # of SDS
TIMING = (40, 120)  # steps
SEARCHED = ("a red chair", "a blue house")  # none of those below
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
MEASURED = ("iou", "f_score", "normal_consistency", "albedo_error")
SHARES = ("named", "color", "backwards", "second_front")
HEADER = ["method", "settings", "IoU", "against SDS", "F-score", "against SDS", "normals", "albedo error"]
HEADER += ["saturation bias", "named", "colour", "backwards", "two fronts", "diversity", "steps"]
HEADER += ["calls per view", "seconds"]
SEARCH_HEADER = ["method", "settings", "IoU", "F-score", "normals", "albedo error", "named"]


Result = tuple[Fit, dict[str, Any]]


class Options(NamedTuple):
    """What the command says."""

    what: str
    out: Path
    only: list[str]
    settings: str
    prompts: int
    seeds: int
    jobs: int
    more: list[str]  # options of every fit


def steps_by_calls(method: Method) -> int:
    """Steps in which a method asks for as many rows as SDS in the same part of the run."""
    return max(1, round(STEPS * (1.0 - method.first) * METHODS["SDS"].rows / method.rows))


def steps_by_seconds(name: str, out: Path, more: list[str]) -> int:
    """Steps that a method does in the time that SDS needs for the same part of the run."""
    method = METHODS[name]
    ratio = seconds_of_a_step("SDS", out, more) / seconds_of_a_step(name, out, more)
    steps, by_calls = round(STEPS * (1.0 - method.first) * ratio), steps_by_calls(method)
    return by_calls if abs(steps - by_calls) < 0.15 * by_calls else max(1, steps)


def seconds_of_a_step(name: str, out: Path, more: list[str]) -> float:
    """Seconds of a method's step with one thread, from two fits: start, film and mesh do not count."""
    seconds = []
    for steps in TIMING:
        words = (*METHODS[name].words, *_length(steps), *more)
        fit = Fit("a red chair", 0, out / "timing" / f"{name} {steps}", words)
        run_fits([fit], jobs=os.cpu_count() or 1)
        seconds.append(seconds_of(fit))
    return (seconds[1] - seconds[0]) / (TIMING[1] - TIMING[0])


def _length(steps: int) -> tuple[str, ...]:
    return (
        "--config=draft.yaml",
        f"--trainer.max_steps={steps}",
        f"--trainer.val_check_interval={steps}",
        "--data.num_test_views=8",
    )


def results_of(
    name: str, settings: str, steps: int, prompts: tuple[str, ...], seeds: int, options: Options
) -> list[Result]:
    """Run and judge one method with some settings; seconds are those of SDS before it as well."""
    method = METHODS[name]
    first = round(STEPS * method.first)
    fits = fits_of(name, settings, steps, prompts, seeds, options)
    before = fits_of("SDS", "as SDS", first, prompts, seeds, options) if first else []
    run_fits(before, options.jobs)
    spent = {fit.folder: seconds_of(sds) for fit, sds in zip(fits, before, strict=False)}
    for index, sds in enumerate(before):
        fits[index] = fits[index]._replace(options=(*fits[index].options, "--from", str(sds.folder)))
    return [
        (fit, row | {"seconds": row["seconds"] + spent.get(fit.folder, 0.0)})
        for fit, row in run_and_judge(fits, options.jobs)
    ]


def fits_of(
    name: str, settings: str, steps: int, prompts: tuple[str, ...], seeds: int, options: Options
) -> list[Fit]:
    """The fits of a method with some settings."""
    words = (*METHODS[name].words, *candidates(METHODS[name])[settings], *_length(steps), *options.more)
    place = options.out / "fits" / name / " ".join([settings, str(steps), *options.more]).replace("/", "_")
    return [
        Fit(prompt, seed, place / f"{prompt} {seed}".replace(" ", "_"), words)
        for prompt in prompts
        for seed in range(seeds)
    ]


def search(options: Options) -> None:
    """Try every candidate of every method on the prompts of the search; one seed."""
    kept = options.out / "search.json"
    found = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for name in options.only:
        for settings in candidates(METHODS[name]):
            results = results_of(name, settings, steps_by_calls(METHODS[name]), SEARCHED, 1, options)
            if results:
                found.setdefault(name, {})[settings] = [measures for _, measures in results]
            kept.write_text(json.dumps(found, indent=1), encoding="utf-8")
        lines = [
            [one, settings, *(over(rows, key, 3) for key in MEASURED), share(rows, "named")]
            for one, tried in found.items()
            for settings, rows in sorted(tried.items(), key=lambda item: -worth(item[1]))
        ]
        (options.out / "search.md").write_text(table(SEARCH_HEADER, lines) + "\n", encoding="utf-8")
        print(table(SEARCH_HEADER, [line for line in lines if line[0] == name]), flush=True)


def worth(rows: list[dict[str, Any]]) -> float:
    """What the search looks for: mean IoU and F-score."""
    return statistics.mean(row["iou"] + row["f_score"] for row in rows) / 2.0


def over(rows: list[dict[str, Any]], key: str, digits: int = 2) -> str:
    """Mean and standard deviation over prompts and seeds."""
    values = [float(row[key]) for row in rows if row[key] is not None]
    return spread(values, digits) if values else "-"


def against(rows: list[dict[str, Any]], others: list[dict[str, Any]], key: str) -> str:
    """Mean difference between two methods, fit by fit, and its standard error."""
    pairs = {(row["prompt"], row["seed"]): float(row[key]) for row in others}
    gaps = [float(row[key]) - pairs[row["prompt"], row["seed"]] for row in rows]
    if len(gaps) < 2:
        return "-"
    return f"{statistics.mean(gaps):+.3f} ± {statistics.stdev(gaps) / len(gaps) ** 0.5:.3f}"


def share(rows: list[dict[str, Any]], key: str) -> str:
    """Mean of a share, in percent."""
    return f"{100 * statistics.mean(float(row[key]) for row in rows):.0f} %"


def front(fit: Fit) -> Tensor:
    """The first frame of the turntable, [H, W, 3] in [0, 1]."""
    return torch.from_numpy(imageio.imread(fit.folder / "turntable.gif", index=0)[..., :3]) / 255.0


def diversity(fits: list[Fit]) -> float:
    """Mean absolute difference between the first frames of seeds of the same prompt, in [0, 1]."""
    found = []
    for prompt in dict.fromkeys(fit.prompt for fit in fits):
        pictures = [front(fit) for fit in fits if fit.prompt == prompt]
        found += [float((a - b).abs().mean()) for i, a in enumerate(pictures) for b in pictures[i + 1 :]]
    return statistics.mean(found) if found else 0.0


def line(
    name: str, settings: str, fits: list[Fit], rows: list[dict[str, Any]], sds: list[dict[str, Any]]
) -> list[str]:
    """One row of the board; ``sds`` are the measures of SDS, for the differences."""
    method = METHODS[name]
    first, steps = round(STEPS * method.first), rows[0]["steps"]
    return [
        name + (f" ({method.note})" if method.note else ""),
        settings,
        over(rows, "iou"),
        against(rows, sds, "iou"),
        over(rows, "f_score"),
        against(rows, sds, "f_score"),
        *(over(rows, key) for key in ("normal_consistency", "albedo_error", "saturation_bias")),
        *(share(rows, key) for key in SHARES),
        f"{diversity(fits):.3f}",
        str(first + steps),
        str(round(first * METHODS["SDS"].rows + steps * method.rows)),
        over(rows, "seconds", 0),
    ]


def board(options: Options) -> None:
    """Run what is missing, judge everything, write the board."""
    stem = options.what + ("" if options.settings == "best" else "_paper")
    figures, lines, strips = {}, [], []
    for name in dict.fromkeys(["SDS", *options.only]):  # the others are compared with it
        method = METHODS[name]
        by_seconds = options.what == "seconds" and name != "SDS"
        steps = steps_by_seconds(name, options.out, options.more) if by_seconds else steps_by_calls(method)
        settings = method.best if options.settings == "best" else "paper"
        results = results_of(name, settings, steps, PROMPTS[: options.prompts], options.seeds, options)
        if not results:
            continue  # run_and_judge has said why
        figures[name] = [{"prompt": fit.prompt, "seed": fit.seed, **row} for fit, row in results]
        lines.append(line(name, settings, [fit for fit, _ in results], figures[name], figures["SDS"]))
        strips.append(row_of_pictures(name, [front(fit) for fit, _ in results if fit.seed == 0]))
        print(table(HEADER, lines[-1:]), flush=True)
        (options.out / f"{stem}.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
        (options.out / f"{stem}.md").write_text(table(HEADER, lines) + "\n", encoding="utf-8")
        write_png(stacked(strips), options.out / f"{stem}.png")
    print(table(HEADER, lines))


def row_of_pictures(name: str, pictures: list[Tensor]) -> Tensor:
    """Pictures [H, W, 3] side by side after the method's name."""
    width = max(label_width(other) for other in METHODS)
    return torch.cat([label(name, width, height=pictures[0].shape[0]), *pictures], dim=1)


def stacked(rows: list[Tensor]) -> Tensor:
    """Rows [H, W, 3] of different widths one below the other, white where there is none."""
    widest = max(row.shape[1] for row in rows)
    return torch.cat([F.pad(row, (0, 0, 0, widest - row.shape[1]), value=1.0) for row in rows])


def main() -> None:
    """Run a stage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("search", "calls", "seconds"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--settings", choices=("best", "paper"), default="best")
    parser.add_argument("--prompts", type=int, default=len(PROMPTS), help="the first of the prompts")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2, help="fits at a time")
    parsed, more = parser.parse_known_args()
    options = Options(**vars(parsed), more=more)
    options.out.mkdir(parents=True, exist_ok=True)
    (search if options.what == "search" else board)(options)


if __name__ == "__main__":
    main()
