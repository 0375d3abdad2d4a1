"""R-Precision of finished objects: candidate captions, and the share of views that retrieve the right one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.data.world.captions import parse
from dreamfusion_pl.evaluation.finished_runs import pictures
from dreamfusion_pl.metrics.retrieval import Judge, RPrecision, WorldJudge
from dreamfusion_pl.types import Views

PAPER_CAPTIONS = 153  # the paper's prompts, which are each other's distractors


def read_captions(path: Path) -> list[str]:
    """Return the captions of a text file, one a line.

    Raises:
        ValueError: it cannot be read, or holds none.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ValueError(
            f"--captions {path} cannot be read ({reason}): pass a text file with a caption a line"
        ) from error
    captions = [" ".join(line.split()) for line in lines if line.strip()]
    if not captions:
        raise ValueError(f"--captions {path} holds no caption: write one on every line")
    return captions


def distinct(captions: list[str]) -> list[str]:
    """Drop captions that differ from an earlier one in capitals and spaces only."""
    known: dict[str, str] = {}
    for caption in captions:
        known.setdefault(" ".join(caption.split()).casefold(), caption)
    return list(known.values())


def retrieval(
    model: DreamFusion, captions: list[str], clips: Sequence[Judge], colour: Views, white: Views
) -> dict[str, tuple[float, int]]:
    """Return the R-Precision of one object by name, and the number of captions that it was chosen from.

    Args:
        model: the object.
        captions: the distinct candidates.
        clips: judges of any caption.
        colour: views that show the colours.
        white: views that show geometry only.
    """
    judges: list[tuple[str, Judge]] = [(kind, one) for one in clips for kind in ("colour", "geometry")]
    if parse(model.prompt) is not None and len(captions) > 1:
        judges += [("colour", WorldJudge()), ("geometry", WorldJudge(use_color=False))]
    if not judges:
        return {}
    seen = {"colour": pictures(model, colour), "geometry": pictures(model, white)}
    scores = {}
    for kind, one in judges:
        if len(candidates := choices(one, captions, model.prompt)) > 1:
            metric = RPrecision(one, candidates)
            metric.update(seen[kind], own(candidates, model.prompt))
            scores[f"{one.name}, {kind}"] = float(metric.compute()), len(candidates)
    return scores


def choices(one: Judge, captions: list[str], prompt: str) -> list[str]:
    """Return the candidate captions of a judge.

    The world classifier knows captions of the world only, and tells objects and colours apart: it gets one
    caption for each pair of them, for geometry one for each object, ``prompt`` for its own.
    """
    if not isinstance(one, WorldJudge):
        return captions
    by_meaning: dict[tuple[str, ...], str] = {}
    for caption in [*captions, prompt]:
        scene = parse(caption)
        if scene is not None:
            item = scene.items[0]
            by_meaning[(item.object, item.color) if one.use_color else (item.object,)] = caption
    return list(by_meaning.values())


def own(candidates: list[str], prompt: str) -> str:
    """Return the candidate that is the prompt; capitals and spaces do not count."""
    return next(one for one in candidates if len(distinct([one, prompt])) == 1)
