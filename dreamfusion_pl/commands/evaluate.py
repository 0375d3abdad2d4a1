"""``python -m dreamfusion_pl evaluate RUN...``: scores finished runs and writes a table."""

from __future__ import annotations

import argparse
import csv
import io
import math
from pathlib import Path

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.atomic import replacing
from dreamfusion_pl.data.world.captions import parse
from dreamfusion_pl.evaluation.caption_retrieval import PAPER_CAPTIONS, distinct, read_captions, retrieval
from dreamfusion_pl.evaluation.finished_runs import TRUST_HELP, find_runs, judged_views, load, run_named
from dreamfusion_pl.evaluation.ground_truth import judge_result
from dreamfusion_pl.evaluation.run_settings import RunSettings, settings_of
from dreamfusion_pl.metrics.clip import PAPER_MODELS, ClipJudge
from dreamfusion_pl.terminal import guarded

Row = dict[str, str | float]


def main(args: list[str]) -> int:
    """Run ``evaluate``; return the exit status."""
    return guarded(lambda: evaluate(_parser().parse_args(args)), "evaluate")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dreamfusion_pl evaluate",
        description="Score finished runs: CLIP R-Precision of colour and geometry, the runs' prompts being "
        "each other's distractors; for prompts of the procedural world also retrieval with the project's "
        "own classifier, and geometry, albedo and recognition against the exact object "
        "(docs/measures.md). Cameras are those of each run's data.",
    )
    parser.add_argument(
        "runs", type=run_named, nargs="+", metavar="RUN", help="run folder, a folder of them, or last"
    )
    parser.add_argument(
        "--clip",
        action="append",
        metavar="FOLDER",
        help="CLIP model, a folder or a hub name on this disk; may be repeated; default: the paper's three",
    )
    parser.add_argument(
        "--captions",
        type=Path,
        metavar="FILE",
        help="text file of further captions, one a line, that R-Precision also chooses from (the paper: "
        f"{PAPER_CAPTIONS} in all)",
    )
    parser.add_argument("--azimuths", type=int, default=8, help="views of every object")
    parser.add_argument("--elevation", type=float, default=30.0, help="their elevation in degrees")
    parser.add_argument("--size", type=int, default=128, help="their height and width in pixels")
    parser.add_argument("--out", type=Path, default=Path("evaluation"), help="folder of the tables")
    parser.add_argument("--trust", action="store_true", help=TRUST_HELP)
    return parser


def evaluate(options: argparse.Namespace) -> None:
    """Score the runs, print the table, and write evaluation.csv, evaluation.md and TensorBoard events.

    Raises:
        ValueError: an option is out of range, or a run, a CLIP model or the captions are missing.
        OSError: the tables cannot be written.
    """
    if options.azimuths < 1 or options.size < 8 or not -90.0 <= options.elevation <= 90.0:
        raise ValueError("--azimuths must be 1 or more, --size 8 or more and --elevation in [-90, 90]")
    distractors = read_captions(options.captions) if options.captions else []
    runs = find_runs(options.runs)
    models = {run: load(run, options.trust) for run in runs}
    captions = distinct([*(model.prompt for model in models.values()), *distractors])
    rows: list[Row] = [{"run": str(run), "prompt": model.prompt} for run, model in models.items()]
    judges = clips(options.clip) if len(captions) > 1 else []
    if len(captions) < 2:
        print("R-Precision needs two or more different prompts, or --captions: not computed for these runs")
    counts: dict[str, int] = {}
    for row, (run, model) in zip(rows, models.items(), strict=True):
        settings = settings_of(run)
        ring = (options.azimuths, options.elevation, options.size)
        colour, white = (judged_views(*ring, bare, settings.camera) for bare in (False, True))
        for name, (share, count) in retrieval(model, captions, judges, colour, white).items():
            row[name], counts[name] = share, count
        row.update(truth(model, settings))
    write(rows, notes(rows, counts), options.out)


def clips(names: list[str] | None) -> list[ClipJudge]:
    """Load the given CLIP models; without any, those of the default models that are on this disk.

    Raises:
        ValueError: a given model is missing.
    """
    if names is not None:
        return [ClipJudge(name) for name in names]
    found = []
    for name in PAPER_MODELS:
        try:
            found.append(ClipJudge(name))
        except ValueError as error:
            print(f"skipped: {error}")
    return found


def truth(model: DreamFusion, settings: RunSettings) -> Row:
    """Return measures against the ground truth, for prompts of the procedural world; otherwise nothing."""
    if parse(model.prompt) is None:
        return {}
    judgement = judge_result(model, settings=settings)
    return {name: float(value) for name, value in judgement._asdict().items()}


def notes(rows: list[Row], counts: dict[str, int]) -> list[str]:
    """Return what has to be known to read the table.

    Args:
        rows: the table.
        counts: number of captions that each column of R-Precision was chosen from.
    """
    lines = [f"R-Precision ({name}): chosen from {count} captions" for name, count in counts.items()]
    if counts and max(counts.values()) < PAPER_CAPTIONS:
        lines.append(
            f"With fewer than the paper's {PAPER_CAPTIONS} captions, R-Precision does not compare with the "
            "paper's figures: --captions FILE adds distractors"
        )
    judged = [row for row in rows if "iou" in row]
    for text, found in (
        ("facing backwards", [row for row in judged if row["backwards"]]),
        ("without a surface", [row for row in judged if math.isnan(float(row["chamfer"]))]),
    ):
        if judged:
            whose = f" ({', '.join(str(row['prompt']) for row in found)})" if found else ""
            lines.append(f"Objects {text}: {len(found)} of {len(judged)}{whose}")
    return lines


def write(rows: list[Row], remarks: list[str], out: Path) -> None:
    """Print the table with means, and write it as CSV, Markdown and TensorBoard events.

    The mean of a column leaves out what is not a number: an object without a surface has no distance to the
    truth. Turns have no mean.
    """
    from torch.utils.tensorboard import SummaryWriter

    columns = list(dict.fromkeys(name for row in rows for name in row))
    means: Row = {"run": "mean", "prompt": ""}
    for name in columns[2:]:
        values = [float(row[name]) for row in rows if name in row and not math.isnan(float(row[name]))]
        if values and name != "yaw_deg":
            means[name] = sum(values) / len(values)
    markdown = _markdown([*rows, means], columns) + "".join(f"\n{remark}.\n" for remark in remarks)
    buffer = io.StringIO()
    table = csv.DictWriter(buffer, columns)
    table.writeheader()
    table.writerows(rows)
    out.mkdir(parents=True, exist_ok=True)
    for name, text in (("evaluation.csv", buffer.getvalue()), ("evaluation.md", markdown)):
        with replacing(out / name) as part:
            part.write_text(text, encoding="utf-8", newline="")
    with SummaryWriter(str(out)) as writer:
        writer.add_text("evaluation", markdown)
        for name in columns[2:]:
            if name in means:
                writer.add_scalar(f"evaluation/{name}", means[name])
    print(markdown)
    print(f"tables: {out}")


def _markdown(rows: list[Row], columns: list[str]) -> str:
    def cell(value: str | float) -> str:
        return value.replace("|", "\\|") if isinstance(value, str) else f"{value:.3f}"

    lines = [columns, ["---"] * len(columns)]
    lines += [[cell(row.get(name, "")) for name in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
