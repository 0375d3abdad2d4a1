"""A callback that leaves what every rank saw and did in a folder, or signals its own process on the way."""

from __future__ import annotations

import atexit
import json
import os
import signal
from pathlib import Path

import torch
from pytorch_lightning import Callback


class Probe(Callback):
    """Writes ``FOLDER/rank_R_step_S.pt`` before every optimizer step, ``FOLDER/rank_R_end.pt`` after the
    fit, and ``FOLDER/rank_R_exit.json`` when the interpreter ends.

    Args:
        folder: where to.
        victim: the rank that signals itself, -1 for none.
        last_step: when it does.
        number: with which signal.
    """

    def __init__(
        self, folder: str, victim: int = -1, last_step: int = 0, number: int = int(signal.SIGKILL)
    ) -> None:
        self.folder, self.victim, self.last_step, self.number = Path(folder), victim, last_step, number

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.views = batch
        if trainer.global_rank == self.victim and trainer.global_step == self.last_step:
            os.kill(os.getpid(), self.number)

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        seen = {
            "views": tuple(self.views),
            "gradients": {name: p.grad.clone() for name, p in pl_module.named_parameters()},
            "state": {name: value.clone() for name, value in pl_module.state_dict().items()},
            "progress": pl_module.progress,
        }
        torch.save(seen, self.folder / f"rank_{trainer.global_rank}_step_{trainer.global_step}.pt")

    def on_fit_end(self, trainer, pl_module):
        torch.save(pl_module.state_dict(), self.folder / f"rank_{trainer.global_rank}_end.pt")
        atexit.register(note_exit, self.folder / f"rank_{trainer.global_rank}_exit.json")


def note_exit(path: Path) -> None:
    """Write whether the process is part of a group, and the names of its threads."""
    threads = [name.read_text().strip() for name in Path("/proc/self/task").glob("*/comm")]
    path.write_text(json.dumps({"group": torch.distributed.is_initialized(), "threads": threads}))
