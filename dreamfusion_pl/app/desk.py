"""What the page's buttons do, without gradio: orders, the selected run, and what there is to show of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple, final

from dreamfusion_pl.app import choices, downloads, parts
from dreamfusion_pl.app.choices import Order, Setup
from dreamfusion_pl.app.ledger import Entry, Ledger, State
from dreamfusion_pl.app.look import RUN, Look, look_at, runs_in
from dreamfusion_pl.app.runner import Runner
from dreamfusion_pl.atomic import replacing
from dreamfusion_pl.run_folder import layout

MOST_CARDS = 200  # of the gallery; older runs stay on disk


class Shown(NamedTuple):
    """What a visitor sees; only what changed is sent again."""

    status: str = parts.WELCOME
    pictures: str = ""
    log: str = ""
    can_stop: bool = False
    can_resume: bool = False
    model: str = ""  # path of object.glb
    results: str = ""
    gallery: str = ""


@final
class Desk:
    """The page's side of the queue; it keeps nothing of a visitor.

    Args:
        ledger: the queue.
        runner: what runs it.
        setup: what the server was started with.
        cache: folder of the copies that gradio may serve: of the page's own folder it serves nothing.
    """

    def __init__(self, ledger: Ledger, runner: Runner, setup: Setup, cache: Path) -> None:
        self._ledger, self._runner, self._setup = ledger, runner, setup
        self.out, self.cache = ledger.out, cache
        self._strangers = [key for key in runs_in(self.out) if ledger.entry(key) is None]
        self._looks: dict[str, tuple[tuple[int, ...], Look]] = {}

    @property
    def setup(self) -> Setup:
        """What the server was started with."""
        return self._setup

    def hint(self, text: str, prior: str) -> str:
        """What to show below the prompt while it is typed."""
        order = Order(text[: 2 * choices.MOST_LETTERS], prior=prior)
        is_embedded = choices.is_embedded(order, self._setup)
        chips = choices.completions(order.prompt) if is_embedded else []
        if not text.strip():
            return parts.hint("", "", chips)
        if chips and not text[-1].isspace():  # its last word may become a known one
            return parts.hint("", choices.unknown_words(order.prompt.rpartition(" ")[0]), chips)
        try:
            known = choices.prompt(order, self._setup)
        except ValueError as error:
            return parts.hint(str(error), "", chips)
        return parts.hint("", choices.remark(known) if is_embedded else "", chips)

    def make(self, order: Order) -> tuple[str, str]:
        """Queue an order; return the key of its first job, and what there is to say.

        Raises:
            ValueError: it can't be made; the message is a sentence for the page.
        """
        prompt = choices.prompt(order, self._setup)
        options, seeds = choices.options(order, self._setup), choices.seeds(order)
        before = {one.key for one in self._ledger.entries()}
        keys = self._ledger.add(prompt, options, seeds)
        there = [key for key in keys if key in before]
        count = len(keys) - len(there)
        said = f"{count} variations are queued." if count > 1 else "It is queued." if count else ""
        if there and count:
            said += " The others are there already."
        elif there:
            said = "This object is there already, with this seed: another seed makes another one."
        return next((key for key in keys if key not in before), keys[0]), said

    def stop(self, key: str) -> str:
        """Stop a job."""
        return (
            self._runner.stop(key) if self._ledger.entry(key) else "This run is not one of this page's queue."
        )

    def resume(self, key: str) -> str:
        """Go on with a job."""
        return (
            self._runner.resume(key)
            if self._ledger.entry(key)
            else "This run is not one of this page's queue."
        )

    def download(self, key: str, form: str) -> None:
        """Make a file of a finished run.

        Raises:
            ValueError: there is no such run, or ``export`` failed.
        """
        if form not in downloads.SUFFIXES or not self.has(key):
            raise ValueError("There is no such file.")
        if downloads.file_of(self.out, key, form) != self.out / key / layout.OBJECT:
            downloads.make(self.out, key, form)

    def has(self, key: str) -> bool:
        """Whether there is a run or a job of a key."""
        return bool(RUN.fullmatch(key)) and (self._ledger.entry(key) is not None or key in self._strangers)

    def first(self) -> str:
        """The key that a new visitor sees: of the running job, or the newest; "" if there is none."""
        entries = self._ledger.entries()
        running = [one.key for one in entries if one.state == "running"]
        keys = [*self._strangers, *(one.key for one in entries)]
        return (running or keys or [""])[-1]

    def show(self, key: str) -> Shown:
        """What a visitor sees who has selected a run."""
        entries = self._ledger.entries()
        gallery = self._gallery(entries, key)
        if not self.has(key):
            return Shown(gallery=gallery)
        look = self._look(key)
        entry = self._ledger.entry(key) or _stranger(look)
        waiting = [one.key for one in entries if one.state in ("waiting", "running")]
        before = waiting.index(key) if key in waiting else 0
        status = parts.status(entry, look, before) + parts.message(self._ledger.trouble, True)
        is_own = self._ledger.entry(key) is not None
        return Shown(
            status=status,
            pictures=parts.pictures(key, look),
            log=look.log,
            can_stop=is_own and entry.state in ("waiting", "running"),
            can_resume=is_own and entry.state in ("stopped", "failed"),
            model=self._copy(look.model) if look.model and entry.state == "finished" else "",
            results=parts.results(key, look) if entry.state == "finished" else "",
            gallery=gallery,
        )

    def _copy(self, model: Path) -> str:
        """Return the path of a copy of a mesh in the cache; "" if it can't be made."""
        try:
            copy = self.cache / f"{model.stat().st_mtime_ns}" / model.parent.parent.name / model.name
            if not copy.exists():
                with replacing(copy) as temporary:
                    shutil.copyfile(model, temporary)
        except OSError:
            return ""
        return str(copy)

    def _gallery(self, entries: list[Entry], selected: str) -> str:
        own = {one.key: one for one in entries}
        cards = []
        for key in [*self._strangers, *own][::-1][:MOST_CARDS]:
            look = self._look(key)
            entry = own.get(key) or _stranger(look)
            remark = f"step {look.step} of {look.max_steps}" if entry.state == "running" and look.step else ""
            cards.append((key, entry, parts.stamp_of(look), remark))
        return parts.gallery(cards, selected)

    def _look(self, key: str) -> Look:
        """Look at a run, unless its files are those of the last look."""
        run = self.out / key
        stamp = tuple(
            _time(run / name) for name in (layout.STATUS, layout.LOG, layout.RENDERS, layout.VIEWER)
        )
        known = self._looks.get(key)
        if known is None or known[0] != stamp:
            known = self._looks[key] = stamp, look_at(run)
        return known[1]


def _time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _stranger(look: Look) -> Entry:
    """What stands for the job of a run that is not one of the queue, such as one of ``batch``."""
    states: dict[str, State] = {"finished": "finished", "failed": "failed", "interrupted": "stopped"}
    return Entry(look.prompt, (), look.seed, states.get(look.state, "stopped"))
