"""``python -m dreamfusion_pl evaluate RUN...``: scores finished runs and writes a table."""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.atomic import replacing
from dreamfusion_pl.data.world.captions import parse
from dreamfusion_pl.evaluation.finished_runs import TRUST_HELP, find_runs, judged_views, load, pictures
from dreamfusion_pl.evaluation.ground_truth import Judgement, judge
from dreamfusion_pl.metrics.clip import PAPER_MODELS, ClipJudge
from dreamfusion_pl.metrics.retrieval import Judge, RPrecision, WorldJudge
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
        "own classifier, and geometry and albedo against the exact object.",
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folder, or a folder of them")
    parser.add_argument(
        "--clip",
        action="append",
        metavar="FOLDER",
        help="CLIP model, a folder or a hub name on this disk; may be repeated; default: the paper's three",
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
        ValueError: an option is out of range, or a run or a CLIP model is missing.
        OSError: the tables cannot be written.
    """
    if options.azimuths < 1 or options.size < 8:
        raise ValueError("--azimuths must be 1 or more and --size 8 or more")
    runs = find_runs(options.runs)
    models = {run: load(run, options.trust) for run in runs}
    captions = list(dict.fromkeys(model.prompt for model in models.values()))
    rows: list[Row] = [{"run": str(run), "prompt": model.prompt} for run, model in models.items()]
    retrieval = clips(options.clip) if len(captions) > 1 else []
    if len(captions) < 2:
        print("R-Precision needs two or more different prompts: not computed for these runs")
    colour, white = (
        judged_views(options.azimuths, options.elevation, options.size, textureless)
        for textureless in (False, True)
    )
    is_world = all(parse(caption) is not None for caption in captions)
    for row, model in zip(rows, models.values(), strict=True):
        seen = {"colour": pictures(model, colour), "geometry": pictures(model, white)}
        judges: list[tuple[str, Judge]] = [(kind, clip) for clip in retrieval for kind in seen]
        if is_world and len(captions) > 1:
            judges += [("colour", WorldJudge()), ("geometry", WorldJudge(use_color=False))]
        for kind, one in judges:
            if len(candidates := choices(one, captions, model.prompt)) > 1:
                metric = RPrecision(one, candidates)
                metric.update(seen[kind], model.prompt)
                row[f"{one.name}, {kind}"] = float(metric.compute())
        row.update(truth(model))
    write(rows, options.out)


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


def choices(one: Judge, captions: list[str], own: str) -> list[str]:
    """Return the candidate captions; for geometry only one per object, ``own`` for its object."""
    if not isinstance(one, WorldJudge) or one.use_color:
        return captions
    by_object = {}
    for caption in [*captions, own]:
        scene = parse(caption)
        assert scene is not None
        by_object[scene.items[0].object] = caption
    return list(by_object.values())


def truth(model: DreamFusion) -> Row:
    """Return measures against the ground truth, for prompts of the procedural world; otherwise nothing."""
    scene = parse(model.prompt)
    if scene is None:
        return {}
    try:
        judgement = judge(model, scene)
    except ValueError as error:
        print(f"{model.prompt}: no geometry: {error}")
        judgement = Judgement(0.0, float("nan"), 1.0, False, False)
    return {name: float(value) for name, value in judgement._asdict().items()}


def write(rows: list[Row], out: Path) -> None:
    """Print the table with means, and write it as CSV, Markdown and TensorBoard events."""
    from torch.utils.tensorboard import SummaryWriter

    columns = list(dict.fromkeys(name for row in rows for name in row))
    means: Row = {"run": "mean", "prompt": ""}
    for name in columns[2:]:
        values = [float(row[name]) for row in rows if name in row]
        means[name] = sum(values) / len(values)
    markdown = _markdown([*rows, means], columns)
    buffer = io.StringIO()
    table = csv.DictWriter(buffer, columns)
    table.writeheader()
    table.writerows(rows)
    out.mkdir(parents=True, exist_ok=True)
    for name, text in (("evaluation.csv", buffer.getvalue()), ("evaluation.md", markdown)):
        with replacing(out / name) as part:
            part.write_text(text, encoding="utf-8")
    with SummaryWriter(str(out)) as writer:
        writer.add_text("evaluation", markdown)
        for name in columns[2:]:
            writer.add_scalar(f"evaluation/{name}", means[name])
    print(markdown)
    print(f"tables: {out}")


def _markdown(rows: list[Row], columns: list[str]) -> str:
    def cell(value: str | float) -> str:
        return value.replace("|", "\\|") if isinstance(value, str) else f"{value:.3f}"

    lines = [columns, ["---"] * len(columns)]
    lines += [[cell(row.get(name, "")) for name in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
