"""Faults, one kind after another, on small fits; prints a table of how many were tried and survived.

    python tests/faults/campaign.py --kills 50 --batch 12 --out campaign

A fault is survived when nothing is lost but what came after the last checkpoint, no half file has a final
name, and the program ends with the right status and one message.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import kinds
import leaves
from processes import Tally


def campaign(out: Path, num_kills: int, num_odd: int, num_batch: int, leaves_every: int) -> dict[str, Tally]:
    """Run every kind of fault in a folder of its own; print the table as it grows."""
    faults: dict[str, Callable[[], Tally]] = {
        "killed at a random moment": lambda: kinds.kills(out / "kills", num_kills, while_saving=False),
        "killed during a save": lambda: kinds.kills(out / "saves", max(num_kills // 5, 1), while_saving=True),
        "checkpoint truncated, empty, flipped": lambda: kinds.damage(out / "damage"),
        "code in a checkpoint": lambda: kinds.code_in_a_checkpoint(out / "code"),
        "checkpoint of another configuration": lambda: kinds.another_configuration(out / "other"),
        "disk full": lambda: kinds.full_disk(out / "full"),
        "no run folder, no TMPDIR": lambda: kinds.no_folder(out / "folder"),
        "odd prompts": lambda: kinds.odd_prompts(out / "prompts", num_odd),
        "odd YAML": lambda: kinds.odd_yaml(out / "yaml", num_odd),
        "odd values of every setting": lambda: leaves.odd_leaves(out / "leaves", every=leaves_every),
        "batch: drivers, workers and fits killed": lambda: kinds.chaos(out / "chaos", num_batch),
    }
    tallies = {}
    print("| fault | tried | survived | |\n|---|---|---|---|", flush=True)
    for name, run in faults.items():
        tallies[name] = tally = run()
        print(f"| {name} | {tally.tried} | {tally.survived} | {tally.note} |", flush=True)
    return tallies


def main() -> int:
    """Run the campaign; return 1 if a fault was not survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--kills", type=int, default=50, help="kills at random moments; a fifth more during saves"
    )
    parser.add_argument("--odd", type=int, default=20, help="odd prompts, and as many odd YAML files")
    parser.add_argument(
        "--batch", type=int, default=12, help="prompts of the batch that is killed; 0 for none"
    )
    parser.add_argument(
        "--leaves-every", type=int, default=1, help="every N-th odd value of a setting; 1: all 1,500"
    )
    parser.add_argument("--out", type=Path, help="new folder for everything; a temporary one by default")
    options = parser.parse_args()
    out = (options.out or Path(tempfile.mkdtemp(prefix="campaign-"))).absolute()
    tallies = campaign(out, options.kills, options.odd, options.batch, options.leaves_every)
    return int(any(tally.survived < tally.tried for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
