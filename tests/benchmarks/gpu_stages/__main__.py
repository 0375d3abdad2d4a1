"""``python -m gpu_stages NAME...``: runs stages in this process; ``gpu.py`` starts it."""

from __future__ import annotations

import argparse
import importlib
import time
import traceback
from pathlib import Path

from gpu_stages.stage import Stage


def main() -> None:
    """Run the stages; one that fails leaves a row and does not stop the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    for name in options.names:
        stage = Stage(name, options.out, options.scratch, time.time() + options.seconds, options.tiny)
        try:
            importlib.import_module(f"gpu_stages.{name}").run(stage)
        except Exception as error:
            traceback.print_exc()
            stage.row("the stage", result=f"{type(error).__name__}: {error}"[:300])


if __name__ == "__main__":
    main()
