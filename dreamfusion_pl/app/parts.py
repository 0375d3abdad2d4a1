"""Pieces of the page's HTML. Every text from a prompt, a log or a run folder is escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from dreamfusion_pl.app import downloads
from dreamfusion_pl.app.ledger import Entry
from dreamfusion_pl.app.look import Look
from dreamfusion_pl.export.pages.facts import duration
from dreamfusion_pl.run_folder import layout

TITLES = {
    "waiting": "waits for its turn",
    "running": "is being made",
    "stopped": "stopped",
    "failed": "failed",
    "finished": "finished",
}
WELCOME = (
    '<div class="df-empty"><p>Nothing is selected yet.</p><p>Describe an object, press <b>Make</b>, and '
    "watch it grow here.</p></div>"
)


def address(key: str, name: str, stamp: int = 0) -> str:
    """Return the address of a file of a run on this server; it changes with ``stamp``."""
    return f"files/{quote(key)}/{name}" + (f"?t={stamp}" if stamp else "")


def hint(trouble: str, remark: str, completions: Sequence[str]) -> str:
    """What is said below the prompt while it is typed: what is wrong, and what it could become."""
    said = [f'<p class="df-bad" role="alert">{escape(trouble)}</p>'] if trouble else []
    said += [f'<p class="df-note">{escape(remark)}</p>'] if remark and not trouble else []
    chips = "".join(
        f'<button type="button" class="df-chip" data-text="{escape(text)}">{escape(text)}</button>'
        for text in completions
    )
    return f'<div class="df-hint">{"".join(said)}<div class="df-chips">{chips}</div></div>'


def message(text: str, is_bad: bool = False) -> str:
    """A sentence after a button was pressed."""
    kind, role = ("df-bad", "alert") if is_bad else ("df-note", "status")
    return f'<p class="{kind}" role="{role}">{escape(text)}</p>' if text else ""


def status(entry: Entry, look: Look, before: int) -> str:
    """Title, state, progress and time left of the selected run.

    Args:
        entry: the job, or what stands for it if the run is not one of the queue.
        look: what the run folder says.
        before: number of jobs that come before it, if it waits.
    """
    lines = [f'<h2 class="df-title">{escape(short(entry.prompt, 160))}</h2>']
    facts = [f"seed {entry.seed}", TITLES[entry.state]]
    if entry.state == "waiting" and before:
        facts.append(f"{before} before it")
    if entry.state == "finished" and look.seconds is not None:
        facts.append(f"in {duration(look.seconds)}")
    if entry.state in ("stopped", "failed") and look.step:
        facts.append(f"at step {look.step} of {look.max_steps}")
    kind = f"df-state df-{entry.state}"
    lines.append(f'<p class="{kind}" role="status">{escape(", ".join(facts))}</p>')
    if entry.state == "running":
        lines.append(_progress(look))
    if entry.state == "running" and entry.reason:
        lines.append(message(f"{entry.reason}."))
    if entry.state == "failed":
        lines.append(message(look.error or entry.reason.strip()[-500:] or "See the log below.", True))
    if entry.state == "stopped" and entry.reason:
        lines.append(message(entry.reason))
    lines += [message(note) for note in look.notes]
    return "".join(lines)


def _progress(look: Look) -> str:
    if not look.max_steps or not look.step:
        return (
            '<div class="df-bar"><div class="df-busy"></div></div>'
            '<p class="df-small">It loads the prior; the first picture comes with the first previews.</p>'
        )
    share = min(100.0 * look.step / look.max_steps, 100.0)
    left = f", {look.left} left" if look.left and look.step < look.max_steps else ""
    end = ", writing the results" if look.step >= look.max_steps else ""
    return (
        f'<div class="df-bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{share:.0f}"><div style="width: {share:.1f}%"></div></div>'
        f'<p class="df-small">step {look.step} of {look.max_steps}{left}{end}</p>'
    )


def pictures(key: str, look: Look) -> str:
    """The object turning, and the newest preview sheet."""
    stamp = stamp_of(look)
    if look.preview is None and look.turning is None:
        return '<div class="df-pictures df-none"><p>No picture yet.</p></div>'
    turning = address(key, "turning.gif", stamp)
    shown = [
        f'<figure><img class="df-turning" src="{turning}" alt="the object from several sides, in turn">'
        f"<figcaption>{'turntable' if look.turning else 'from its sides, in turn'}</figcaption></figure>"
    ]
    if look.preview is not None:
        sheet = address(key, "preview.png", stamp)
        step = layout.step_of(look.preview)
        shown.append(
            f'<figure><a href="{sheet}" target="_blank"><img class="df-sheet" src="{sheet}" '
            f'alt="preview sheet: colour, normals, opacity and what the prior wants, from four sides"></a>'
            f"<figcaption>step {step}: colour, normals, opacity, what the prior wants</figcaption>"
            "</figure>"
        )
    return f'<div class="df-pictures">{"".join(shown)}</div>'


def results(key: str, look: Look) -> str:
    """Buttons that download the object, and a link to the run's own page."""
    if look.model is None:
        said = "The run is finished, and the field has no surface to export: see the log."
        return message(said, True) if look.state == "finished" else ""
    buttons = "".join(
        f'<button type="button" class="df-chip df-download" data-form="{form}" '
        f'aria-label="download as {form}">{form}</button>'
        for form in downloads.SUFFIXES
    )
    page = (
        f'<a class="df-chip" href="{address(key, "viewer.html")}" target="_blank">open its page</a>'
        if look.viewer
        else ""
    )
    return f'<div class="df-chips"><span class="df-small">Download:</span>{buttons}{page}</div>'


def ready(key: str, form: str) -> str:
    """The link to a file that was made."""
    name = downloads.name_of(key, form)
    link = (
        f'<a id="df-ready" href="download/{quote(key)}/{form}" download="{escape(name)}">{escape(name)}</a>'
    )
    return f'<p class="df-note" role="status">{link} is ready.</p>'


def gallery(cards: Sequence[tuple[str, Entry, int, str]], selected: str) -> str:
    """All runs of the folder, the newest first.

    Args:
        cards: (key, entry, stamp of its picture or 0 if it has none, a remark such as "step 3 of 4") each.
        selected: key of the selected one.
    """
    if not cards:
        return '<p class="df-small">Objects that you make are kept here.</p>'
    made = []
    for key, entry, stamp, remark in cards:
        picture = (
            f'<img loading="lazy" src="{address(key, "still.png", stamp)}" alt="">'
            if stamp
            else '<div class="df-blank"></div>'
        )
        chosen = ' aria-current="true"' if key == selected else ""
        said = ", ".join([f"seed {entry.seed}", remark or entry.state])
        made.append(
            f'<button type="button" class="df-card" data-key="{escape(key)}"{chosen}>{picture}'
            f'<span class="df-prompt">{escape(short(entry.prompt, 70))}</span>'
            f'<span class="df-small df-{entry.state}">{escape(said)}</span></button>'
        )
    return f'<div class="df-gallery">{"".join(made)}</div>'


def short(text: str, most: int) -> str:
    """Cut a text."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def stamp_of(look: Look) -> int:
    """Return a number that changes with the picture of a run; 0 if it has none."""
    for place in (look.turning, look.preview):
        if place is not None:
            try:
                return place.stat().st_mtime_ns // 1_000_000
            except OSError:
                continue
    return 0
