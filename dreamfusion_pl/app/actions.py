"""What happens when a visitor clicks: gradio's values in, gradio's updates out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, final

import gradio as gr

from dreamfusion_pl.app import parts
from dreamfusion_pl.app.choices import OWN, Order
from dreamfusion_pl.app.desk import Desk, Shown


@final
class Actions:
    """The functions behind the page. Each ends with the updates of ``changes``.

    Args:
        desk: what they work on.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def begin(self) -> list[Any]:
        """A visitor comes: select a run."""
        key = self._desk.first()
        return [key, *changes(self._desk.show(key), None)]

    def refresh(self, key: str, last: Shown | None) -> list[Any]:
        """It is time to look again."""
        return changes(self._desk.show(key), last)

    def type(self, text: str | None, prior: str) -> str:
        """The prompt, or the prior that draws it, changes."""
        return self._desk.hint(text or "", prior)

    def complete(self, event: gr.EventData) -> str:
        """A suggestion is clicked: it becomes the prompt."""
        return str(_data(event).get("text", ""))

    def choose_prior(self, text: str | None, prior: str) -> list[Any]:
        """Another prior brings its own settings, and draws any prompt."""
        is_own = prior == OWN
        quality = gr.update(
            interactive=is_own, info=None if is_own else "This prior brings its own settings."
        )
        return [self._desk.hint(text or "", prior), quality, gr.update(visible=not is_own)]

    def make(
        self,
        text: str | None,
        quality: str,
        seed: float | None,
        count: float | None,
        prior: str,
        model: str | None,
        key: str,
        last: Shown | None,
    ) -> list[Any]:
        """Queue what the form says, and select it."""
        order = Order(text or "", quality, seed, count, prior, model or "")
        try:
            key, told = self._desk.make(order)
            note = parts.message(told)
        except ValueError as error:
            note = parts.message(str(error), True)
        return [note, self.type(text, prior), "", key, *changes(self._desk.show(key), last)]

    def choose(self, last: Shown | None, event: gr.EventData) -> list[Any]:
        """A card of the gallery is clicked."""
        key = str(_data(event).get("key", ""))
        return ["", key, *changes(self._desk.show(key), last)]

    def stop(self, key: str, last: Shown | None) -> list[Any]:
        """Stop the selected job."""
        return [parts.message(self._desk.stop(key)), *changes(self._desk.show(key), last)]

    def resume(self, key: str, last: Shown | None) -> list[Any]:
        """Go on with the selected job."""
        return [parts.message(self._desk.resume(key)), *changes(self._desk.show(key), last)]

    def download(self, key: str, event: gr.EventData) -> Iterator[str]:
        """Make a file of the selected run, and give its link."""
        form = str(_data(event).get("form", ""))
        yield parts.message(f"Making the {form[:8]} file; it can take a minute.")
        try:
            self._desk.download(key, form)
            yield parts.ready(key, form)
        except (ValueError, OSError) as error:
            yield parts.message(str(error), True)


def changes(now: Shown, last: Shown | None) -> list[Any]:
    """Return updates of the components that show a run, as ``page.View`` has them, and ``now`` itself.

    What is as it was is skipped: otherwise a picture that turns would begin anew every few seconds.
    """
    updates = [
        now.status,
        now.pictures,
        now.log,
        gr.update(visible=now.can_stop or now.can_resume),
        gr.update(interactive=now.can_stop),
        gr.update(interactive=now.can_resume),
        now.model or None,
        now.results,
        now.gallery,
    ]
    values, before = _values(now), _values(last) if last is not None else len(updates) * (None,)
    kept = [
        update if value != old else gr.skip()
        for update, value, old in zip(updates, values, before, strict=True)
    ]
    return [*kept, now if now != last else gr.skip()]


def _values(shown: Shown) -> tuple[Any, ...]:
    """What the updates depend on, in their order."""
    return (*shown[:3], shown.can_stop or shown.can_resume, *shown[3:])


def _data(event: gr.EventData) -> dict[str, Any]:
    """What the page's script sent with a click."""
    data = getattr(event, "_data", None)
    return data if isinstance(data, dict) else {}
