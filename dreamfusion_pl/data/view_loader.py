"""A data loader of views, without state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, final

from dreamfusion_pl.types import Views


@final
class ViewLoader:
    """A data loader whose views are a function of their index.

    It has no state: started at step k, it yields the same views as an uninterrupted run from step k.

    Args:
        views: maps an index to the views of that step.
        indices: returns the remaining indices when an iteration starts; they may be endless.
    """

    def __init__(self, views: Callable[[int], Views], indices: Callable[[], Iterable[int]]) -> None:
        self.views, self.indices = views, indices

    def __iter__(self) -> Iterator[Views]:
        return map(self.views, self.indices())

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the trainer's step is the state. Lightning needs this method to allow resuming."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore nothing, the counterpart of ``state_dict``."""
