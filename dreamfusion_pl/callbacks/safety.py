"""Numerical safety: skips bad gradients, rolls back, and stops runs that have failed, with advice."""

from __future__ import annotations

import copy
import sys
from typing import Any, final

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from dreamfusion_pl.callbacks.checkpoints import LastCheckpoints

# Mean opacity of all pictures below which nothing is left; opacity of every picture above which all are full.
EMPTY, FULL = 0.005, 0.97

NOTHING_SEEN = [0.0, 1.0, 0.0]  # sum of opacities, the lowest, their number


class DivergedError(ValueError):
    """Training has failed for good; the message says what to change. Another seed may succeed."""


@final
class Safety(Callback):
    """Watches gradients and opacity.

    A gradient that is not finite is set to zero on the device, without synchronization. In such a bad step
    only the optimizer's momentum moves the weights. Every ``every`` steps the callback checks the run: after
    no bad step it takes a snapshot of the state, after ``patience`` bad steps or more it rolls back to the
    last snapshot, and after ``rollbacks`` rollbacks training ends. The last step is checked too: a run that
    skipped most of its steps, or has no good state but its start, has failed. A run that has failed goes back
    to its last good state and saves it (``LastCheckpoints``) before it ends. If the object has vanished
    from all pictures since the last check, or fills every one of them, a warning is printed once; if that
    holds for ``lost`` checks in a row, training ends. A single step says little: with one view a step, a
    close camera fills its picture with a healthy object.

    Args:
        every: steps between two checks.
        patience: number of bad steps between two checks that causes a rollback.
        rollbacks: maximum number of rollbacks.
        lost: number of checks in a row with empty or full pictures after which training ends; 0: never.

    Raises:
        ValueError: ``every`` or ``patience`` is below 1, or ``rollbacks`` or ``lost`` is negative.
    """

    def __init__(self, every: int = 25, patience: int = 10, rollbacks: int = 3, lost: int = 4) -> None:
        if min(every, patience) < 1 or min(rollbacks, lost) < 0:
            raise ValueError(
                "every and patience must be 1 or more, rollbacks and lost 0 or more, "
                f"got {every}, {patience}, {rollbacks} and {lost}"
            )
        self.every, self.patience, self.rollbacks, self.lost = every, patience, rollbacks, lost
        self.notes: list[str] = []
        self._snapshot: tuple[dict[str, Any], list[dict[str, Any]]] | None = None
        self._num_bad = torch.zeros(())  # bad steps since the last check
        self._opacity = torch.tensor(NOTHING_SEEN)  # of the steps since the last check
        self._reset()

    @property
    def skipped(self) -> int:
        """Number of steps so far whose gradient was not finite."""
        return self._skipped + int(self._num_bad)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Reset the state of an earlier fit."""
        if stage == "fit":
            self._reset()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the first snapshot, unless a checkpoint contained one."""
        self._num_bad = self._num_bad.to(pl_module.device)
        self._opacity = self._opacity.to(pl_module.device)
        if self._snapshot is None:
            self._take_snapshot(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the counters, and the snapshot if it is not the current state."""
        checkpoint["safety"] = {
            "notes": list(self.notes),
            "went_back": self._num_rollbacks,
            "skipped": self._skipped,
            "bad": int(self._num_bad),
            "opacity": self._opacity.tolist(),
            "lost_looks": self._num_lost,
            "looked": self._checked_step,
            "good_step": self._good_step,
            "good": None if self._snapshot_step == trainer.global_step else self._snapshot,
        }

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore counters and snapshot."""
        if trainer.state.fn != "fit" or "safety" not in checkpoint:
            return
        known = checkpoint["safety"]
        self.notes, self._snapshot = list(known["notes"]), known["good"]
        self._num_rollbacks, self._skipped = known["went_back"], known["skipped"]
        self._num_lost, self._checked_step = known["lost_looks"], known["looked"]
        self._num_bad = torch.tensor(float(known["bad"]))
        self._opacity = torch.tensor(known.get("opacity", NOTHING_SEEN))
        self._good_step = known.get("good_step", known["looked"])

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Replace a gradient that is not finite with zero, and count it."""
        gradients = [
            p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None
        ]
        finite = torch.stack([gradient.isfinite().all() for gradient in gradients]).all()
        for gradient in gradients:
            gradient.copy_(torch.where(finite, gradient, torch.zeros_like(gradient)))
        self._num_bad += (~finite).to(self._num_bad)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the opacity, on the device; check every ``every`` optimizer steps, and after the last one."""
        opacity = trainer.callback_metrics.get("opacity")
        if opacity is not None:
            total, lowest, count = self._opacity
            self._opacity = torch.stack([total + opacity, torch.minimum(lowest, opacity), count + 1.0])
        is_due = trainer.global_step % self.every == 0 or trainer.global_step == trainer.max_steps
        if is_due and trainer.global_step != self._checked_step:
            self._checked_step = trainer.global_step
            self._check(trainer, pl_module)

    def _reset(self) -> None:
        self.notes, self._num_rollbacks, self._skipped, self._num_lost = [], 0, 0, 0
        self._checked_step = 0  # step of the last check
        self._num_bad = torch.zeros(())
        self._opacity = torch.tensor(NOTHING_SEEN)
        self._snapshot, self._snapshot_step = None, -1  # the snapshot, the step when it is the state
        self._good_step = 0  # of the last check that found nothing bad

    def _take_snapshot(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._snapshot, self._snapshot_step = _state(trainer, pl_module), trainer.global_step

    def _check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        bad = int(self._num_bad)
        self._num_bad.zero_()
        self._skipped += bad
        is_sound = all(bool(parameter.isfinite().all()) for parameter in pl_module.parameters())
        if bad == 0 and is_sound:
            self._take_snapshot(trainer, pl_module)
            self._good_step = trainer.global_step
        elif trainer.global_step == trainer.max_steps and self._is_hopeless(trainer, is_sound):
            raise self._failure(trainer, pl_module)
        elif bad >= self.patience or not is_sound:
            self._roll_back(trainer, pl_module)
        total, lowest, count = self._opacity.tolist()
        self._opacity.copy_(torch.tensor(NOTHING_SEEN))
        if count and trainer.global_step > 0.2 * trainer.max_steps:
            self._watch_opacity(trainer, total / count, lowest)

    def _restore(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go back to the last good state."""
        assert self._snapshot is not None
        pl_module.load_state_dict(self._snapshot[0], strict=False)  # without what counts steps
        for optimizer, state in zip(trainer.optimizers, self._snapshot[1], strict=True):
            optimizer.load_state_dict(copy.deepcopy(state))
        self._snapshot_step = trainer.global_step

    def _roll_back(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._num_rollbacks >= self.rollbacks:
            raise self._failure(trainer, pl_module)
        self._num_rollbacks += 1
        self._restore(trainer, pl_module)
        self._note(
            trainer,
            f"gradients were not finite; went back to the last good state at step {trainer.global_step}",
        )

    def _is_hopeless(self, trainer: Trainer, is_sound: bool) -> bool:
        return 2 * self._skipped > trainer.global_step or (not is_sound and self._good_step == 0)

    def _failure(self, trainer: Trainer, pl_module: LightningModule) -> DivergedError | SystemExit:
        """Save the last good state, on every rank; return what ends training."""
        self._restore(trainer, pl_module)
        keepers = [one for one in trainer.callbacks if isinstance(one, LastCheckpoints)]
        for keeper in keepers:
            keeper.save(trainer)
        kept = f" Its state of step {self._good_step}, the last good one, is saved." if keepers else ""
        return _end(
            trainer,
            f"training diverged: {self._skipped} of {trainer.global_step} steps had a gradient that is not "
            f"finite, and the run went back to its last good state {self._num_rollbacks} times.{kept} Lower "
            "--model.learning_rate (of a playground --model.optimizer.lr) or "
            "--model.distillation.guidance_scale, check the optimizer and parts of your own, or compute in "
            "--trainer.precision 32",
        )

    def _watch_opacity(self, trainer: Trainer, mean: float, lowest: float) -> None:
        is_empty = mean < EMPTY
        is_lost = is_empty or lowest > FULL  # False for NaN, which the gradient check handles
        if trainer.world_size > 1:  # ranks render different views but must stop together
            is_lost = bool(trainer.strategy.reduce_boolean_decision(is_lost))
        if not is_lost:
            self._num_lost = 0
            return
        self._num_lost += 1
        note = (
            "the object has vanished: lower --model.regularizers.opacity, or take another seed"
            if is_empty
            else "the object fills the picture: raise --model.regularizers.opacity, or take another seed"
        )
        self._note(trainer, note)
        if self._num_lost == self.lost:
            advice = f"{note}. It has been so for {self.lost * self.every} steps, and training ends here"
            raise _end(trainer, advice)

    def _note(self, trainer: Trainer, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)
            if trainer.is_global_zero:
                print(f"dreamfusion_pl: warning: {note}", file=sys.stderr, flush=True)


def _end(trainer: Trainer, advice: str) -> DivergedError | SystemExit:
    """Return what ends training. Only rank 0 fails: Lightning would kill it if another rank failed."""
    return DivergedError(advice) if trainer.is_global_zero else SystemExit(0)


def _state(trainer: Trainer, pl_module: LightningModule) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    state = pl_module.state_dict().items()
    weights = {name: value.detach().clone() for name, value in state if isinstance(value, torch.Tensor)}
    return weights, [copy.deepcopy(optimizer.state_dict()) for optimizer in trainer.optimizers]
