"""What every stage has: a place for its rows, a deadline, and rows that say why they are empty."""

from __future__ import annotations

import gc
import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

ROWS = "rows.jsonl"
PROMPT = "a red chair"  # of the procedural world, and of the words that tiny pipelines know
TINY_SCENE = (  # a fit of seconds on a CPU
    "--model.scene.features.resolution=8",
    "--model.renderer.num_samples=8",
    "--model.renderer.occupancy_resolution=8",
    "--model.renderer.num_strata=16",
    "--data.look_resolution=16",
    "--data.num_test_views=2",
)


class Stage(NamedTuple):
    """One stage's surroundings."""

    name: str
    out: Path  # results
    scratch: Path  # anything else, deleted at the end
    deadline: float  # in seconds of ``time.time``
    tiny: bool  # tiny models and a few steps, for a CPU

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.time()

    def row(self, what: str, **values: Any) -> None:
        """Append a row to the results; it is on the disk when this returns."""
        line = json.dumps({"stage": self.name, "what": what, **values})
        with (self.out / ROWS).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)

    def attempt(
        self, what: str, measure: Callable[[], dict[str, Any]], needs: float = 0.0
    ) -> dict[str, Any] | None:
        """Measure a row; without success, the row says why.

        Args:
            what: its name.
            measure: returns its columns.
            needs: seconds that it takes at least; with less time left it is not begun.

        Returns:
            The columns; None without success.
        """
        if not self.tiny and self.left < needs:
            self.row(what, result="no time left")
            return None
        begin = time.monotonic()
        try:
            found = measure()
        except torch.OutOfMemoryError:
            self.row(what, result="out of memory")
            return None
        except Exception as error:  # the next row may work
            traceback.print_exc()
            reason = (str(error).strip().splitlines() or [""])[0]
            self.row(what, result=f"{type(error).__name__}: {reason}"[:300])
            return None
        finally:
            self._clean_up()
        self.row(what, **found, took=round(time.monotonic() - begin, 1))
        return found

    def _clean_up(self) -> None:
        if not self.tiny:
            torch._dynamo.reset()  # a second shape would be compiled for any shape
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
