"""Every leaf of a configuration takes every kind of odd value, each in a process forked from this one.

    python tests/faults/leaves.py --out leaves [--only model.init_args.renderer] [--every 10]

A case is survived if it ends with a status of the program and no traceback; a configuration that is refused
leaves no run folder. What is not survived is printed with the last lines that it wrote.
"""

from __future__ import annotations

import argparse
import copy
import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import yaml
from processes import SMALL, Tally

from dreamfusion_pl.cli import main as program

VALUES: tuple[Any, ...] = (-1, 0, float("nan"), float("inf"), 1e30, "", [], {})
STATUSES = (0, 1, 2, 3)
SECONDS = 120.0  # the time of one case
ENDS_LATE = "trainer.max_steps", "trainer.max_epochs"  # -1: without an end
Leaf = tuple[str | int, ...]


def leaves(tree: Any, path: Leaf = ()) -> Iterator[Leaf]:
    """Yield the paths of all values of a configuration that are no mapping or list with anything in it."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    is_leaf = True
    for key, value in items:
        is_leaf = False
        yield from leaves(value, (*path, key))
    if is_leaf and path:
        yield path


def changed(tree: dict[str, Any], leaf: Leaf, value: Any) -> dict[str, Any]:
    """Return the configuration with another value at a leaf."""
    tree = copy.deepcopy(tree)
    node: Any = tree
    for key in leaf[:-1]:
        node = node[key]
    node[leaf[-1]] = value
    return tree


def name(leaf: Leaf) -> str:
    """Name of a leaf, with dots."""
    return ".".join(map(str, leaf))


def printed(words: list[str]) -> dict[str, Any]:
    """Return what ``fit --print_config`` says."""
    with redirect_stdout(io.StringIO()) as shown:
        assert program(["fit", *words, "--print_config"]) == 0
    return yaml.safe_load(shown.getvalue())


def ends_well(place: Path, tree: dict[str, Any]) -> bool:
    """Run a short fit of a configuration in a forked process; whether it ends as it should."""
    place.mkdir(parents=True)
    (place / "odd.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    child = os.fork()
    if child == 0:
        _run(place)
    deadline = time.monotonic() + SECONDS
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    if ended[0] == 0:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return False
    status = os.waitstatus_to_exitcode(ended[1])
    said = (place / "output.txt").read_text(encoding="utf-8", errors="replace")
    (place / "status").write_text(f"{status}\n")
    is_clean = status in STATUSES and "Traceback" not in said and (status == 0 or "error: " in said)
    return is_clean and not (status == 2 and any(place.glob("lightning_logs/*/checkpoints")))


def _run(place: Path) -> None:
    status = 99
    try:
        os.chdir(place)
        output = os.open("output.txt", os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
        status = program(["fit", "--config", "odd.yaml"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def odd_leaves(out: Path, only: str = "", every: int = 1, first: int = 0) -> Tally:
    """Try every ``every``-th case, from ``first`` on, among the leaves whose name holds ``only``."""
    tree = printed([*SMALL, "--trainer.max_steps=2"])
    cases = [(leaf, value) for leaf in leaves(tree) if only in name(leaf) for value in VALUES]
    cases = [one for one in cases if not (name(one[0]) in ENDS_LATE and one[1] == -1)][first::every]
    survived = 0
    for number, (leaf, value) in enumerate(cases):
        place = out / str(number)
        if ends_well(place, changed(tree, leaf, value)):
            survived += 1
            continue
        lines = (place / "output.txt").read_text(encoding="utf-8", errors="replace").splitlines()
        status = (place / "status").read_text().strip() if (place / "status").exists() else "no end"
        tail = "\n    ".join(lines[-3:])
        print(f"NOT SURVIVED {number}: {name(leaf)} = {value!r}: {status}\n    {tail}", file=sys.stderr)
    return Tally(len(cases), survived, f"{len(tree)} sections")


def main() -> int:
    """Run the cases; return 1 if one was not survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="new folder for everything")
    parser.add_argument("--only", default="", help="part of the names of the leaves")
    parser.add_argument("--every", type=int, default=1, help="try every N-th case")
    parser.add_argument("--first", type=int, default=0, help="from this one on")
    options = parser.parse_args()
    tally = odd_leaves(options.out.absolute(), options.only, options.every, options.first)
    print(f"{tally.survived} of {tally.tried} survived")
    return int(tally.survived < tally.tried)


if __name__ == "__main__":
    sys.exit(main())
