"""Gallery page of many runs, with links to their own pages."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import NamedTuple
from urllib.parse import quote

from dreamfusion_pl.atomic import replacing
from dreamfusion_pl.export.pages.viewer import TEMPLATE


class Card(NamedTuple):
    """One run on the page. All texts are escaped."""

    prompt: str
    link: Path  # page of the run, relative to the gallery
    picture: Path | None  # turntable of the run, relative to the gallery
    note: str  # seed, metrics, errors


def write_gallery(title: str, cards: Sequence[Card], path: Path) -> Path:
    """Write the page atomically; return its path.

    Raises:
        OSError: it cannot be written.
    """
    text = Template((TEMPLATE / "gallery.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(title), cards="\n".join(_card(card) for card in cards)
    )
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")
    return path


def _card(card: Card) -> str:
    picture = f'<img loading="lazy" src="{_url(card.picture)}" alt="">' if card.picture else ""
    return (
        f'<div class="card">{picture}<a href="{_url(card.link)}">{html.escape(card.prompt)}</a><br>'
        f"<small>{html.escape(card.note)}</small></div>"
    )


def _url(path: Path) -> str:
    return html.escape(quote(os.fsencode(path.as_posix())))
