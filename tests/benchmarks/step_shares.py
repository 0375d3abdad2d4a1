"""What a step of a fit on a CPU spends its time on, before and after the change of resolution.

    python tests/benchmarks/step_shares.py --out DIR --prompt "a red chair" [any option of fit]

The fit runs in this process, with clocks around its parts. ``backward`` goes through the encoder and the
rendering; ``other`` is the optimizer, the occupancy grid and all callbacks between steps. Prints the mean
milliseconds of a step, and the peak memory of the process. Previews and the mesh are not part of a step.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tables import table

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.cli import main as command
from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior
from dreamfusion_pl.types import Views

PARTS = {
    "rendering": (DreamFusion, "forward"),
    "encoder": (DreamFusion, "encode"),
    "prior": (PretrainedPrior, "predict"),
    "backward": (DreamFusion, "backward"),
}


class Clocks:
    """Seconds of every part, by the side of the pictures that are rendered."""

    def __init__(self) -> None:
        self.seconds: dict[str, dict[int, float]] = {part: defaultdict(float) for part in (*PARTS, "step")}
        self.steps: dict[int, int] = defaultdict(int)
        self._side, self._training, self._began = 0, False, 0.0

    def timed(self, part: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """The method with a clock that runs during training steps."""

        @wraps(method)
        def wrapper(*args: Any, **keywords: Any) -> Any:
            start = time.perf_counter()
            result = method(*args, **keywords)
            if self._training:
                self.seconds[part][self._side] += time.perf_counter() - start
            return result

        return wrapper

    def begin(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """The hook that begins a step, which also says what size its pictures have."""

        @wraps(method)
        def wrapper(model: DreamFusion, batch: Views, batch_idx: int) -> Any:
            self._side, self._training, self._began = batch.jitter.shape[-1], True, time.perf_counter()
            return method(model, batch, batch_idx)

        return wrapper

    def end(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """The hook that ends a step."""

        @wraps(method)
        def wrapper(*args: Any, **keywords: Any) -> Any:
            self.seconds["step"][self._side] += time.perf_counter() - self._began
            self.steps[self._side] += 1
            self._training = False
            return method(*args, **keywords)

        return wrapper

    def rows(self) -> list[list[str]]:
        """Milliseconds of a step and their share, for every size of pictures."""
        sides = sorted(self.steps)
        whole, known = self.seconds["step"], [self.seconds[part] for part in PARTS]
        other = {side: whole[side] - sum(part[side] for part in known) for side in sides}
        cells = {**{part: self.seconds[part] for part in PARTS}, "other": other, "step": whole}

        def cell(seconds: dict[int, float], side: int) -> str:
            share = seconds[side] / whole[side]
            return f"{1000 * seconds[side] / self.steps[side]:.1f} ({100 * share:.0f} %)"

        return [[part, *(cell(seconds, side) for side in sides)] for part, seconds in cells.items()]


def main() -> None:
    """Fit with clocks and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--prompt", default="a red chair")
    options, fit_options = parser.parse_known_args()
    clocks = Clocks()
    wrapped = {
        **{(owner, name): clocks.timed(part, getattr(owner, name)) for part, (owner, name) in PARTS.items()},
        (DreamFusion, "on_train_batch_start"): clocks.begin(DreamFusion.on_train_batch_start),
        (DreamFusion, "on_train_batch_end"): clocks.end(DreamFusion.on_train_batch_end),
    }
    patches = [patch.object(owner, name, method) for (owner, name), method in wrapped.items()]
    for one in patches:
        one.start()
    logger = "--trainer.logger.init_args.save_dir"
    command(["fit", "--prompt", options.prompt, logger, str(options.out), *fit_options])
    sides = sorted(clocks.steps)
    print(table(["ms", *(f"{side} px, {clocks.steps[side]} steps" for side in sides)], clocks.rows()))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
