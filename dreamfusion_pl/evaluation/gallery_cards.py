"""Gallery cards of run folders."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dreamfusion_pl.export.pages.gallery import Card
from dreamfusion_pl.run_folder import layout

METRICS = {
    "score": ".4f",
    "loss": ".3g",
    "opacity": ".2f",
}  # metrics that a card shows, and their number formats


def card_of(run: Path, home: Path, known: Mapping[str, Any], remark: str = "") -> Card:
    """Make the card of a run, finished or not, with a link to its page.

    Args:
        run: the run folder.
        home: the gallery's folder; links and images are relative to it.
        known: contents of ``status.json``; any field may be missing or have an unexpected type.
        remark: text appended to the card's note.
    """
    place = Path(os.path.relpath(run, home))
    pages = [name for name in (layout.VIEWER, layout.LOG) if (run / name).exists()]
    has_film = (run / layout.TURNTABLE_GIF).exists()
    return Card(
        prompt=_prompt(run, known),
        link=place / pages[0] if pages else place,
        picture=place / layout.TURNTABLE_GIF if has_film else None,
        note=", ".join([*_facts(known), *([remark] if remark else [])]),
    )


def _prompt(run: Path, known: Mapping[str, Any]) -> str:
    if "prompt" in known:
        return str(known["prompt"])
    place = run / layout.PROMPT
    try:
        if place.is_file():  # a pipe would never end
            return place.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        pass
    return run.absolute().name


def _facts(known: Mapping[str, Any]) -> list[str]:
    state = str(known.get("state", f"no {layout.STATUS} that can be read"))
    facts = [f"seed {known['seed']}"] if "seed" in known else []
    facts.append(state)
    if state != "finished" and "step" in known:
        facts.append(f"step {known['step']} of {known.get('max_steps', 'unknown')}")
    if _is_number(known.get("seconds")):
        facts.append(f"{known['seconds']:.0f} s")
    metrics = known.get("metrics")
    if isinstance(metrics, dict):
        facts += [
            f"{name} {metrics[name]:{form}}"
            for name, form in METRICS.items()
            if _is_number(metrics.get(name))
        ]
    if "error" in known:
        facts.append(str(known["error"]).partition("\n")[0])
    return facts


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)
