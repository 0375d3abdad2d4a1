"""Self-contained page of one run, which opens from disk without a network."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import NamedTuple

from dreamfusion_pl.atomic import replacing

TEMPLATE = Path(__file__).parent / "template"
_TYPES = {".glb": "model/gltf-binary", ".gif": "image/gif", ".png": "image/png"}


class Page(NamedTuple):
    """Contents of the page. All texts are escaped."""

    title: str
    object: Path | None  # .glb
    film: Path | None  # .gif
    previews: Mapping[str, Path]  # .png by their captions, in the order of time
    legend: str  # what the rows of the previews are
    facts: Mapping[str, str]
    configuration: str


def write_viewer(page: Page, path: Path) -> Path:
    """Write the page atomically; return its path.

    The object is shown by the library model-viewer (Apache-2.0), which is embedded in the page, from its
    front. It turns by itself after some seconds.

    Raises:
        OSError: an image cannot be read, or the page cannot be written.
    """
    text = Template((TEMPLATE / "viewer.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(page.title),
        object=_object(page),
        film=_film(page),
        previews=_previews(page),
        facts="".join(_fact(name, value) for name, value in page.facts.items()),
        configuration=html.escape(page.configuration),
        script=_script() if page.object else "",
    )
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")
    return path


def _object(page: Page) -> str:
    if page.object is None:
        return "<p>There is no object file: no surface could be written.</p>"
    return (
        f'<model-viewer src="{_data(page.object)}" alt="{html.escape(page.title)}" camera-controls '
        'auto-rotate auto-rotate-delay="4000" camera-orbit="0deg 75deg 100%" bounds="tight" '
        'shadow-intensity="0.6" interaction-prompt="none"></model-viewer>'
    )


def _film(page: Page) -> str:
    if page.film is None:
        return ""
    picture = _picture(page.film, "turntable")
    return f'<figure class="film">{picture}<figcaption>turntable</figcaption></figure>'


def _previews(page: Page) -> str:
    if not page.previews:
        return ""
    figures = "".join(
        f"<figure>{_picture(path, caption)}<figcaption>{html.escape(caption)}</figcaption></figure>"
        for caption, path in page.previews.items()
    )
    return f'<h2>During training</h2><div class="strip">{figures}</div><p>{html.escape(page.legend)}</p>'


def _picture(path: Path, name: str) -> str:
    return f'<img src="{_data(path)}" alt="{html.escape(name)}">'


def _fact(name: str, value: str) -> str:
    return f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>"


def _data(path: Path) -> str:
    return f"data:{_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _script() -> str:
    return f'<script type="module">{(TEMPLATE / "model-viewer.min.js").read_text(encoding="utf-8")}</script>'
