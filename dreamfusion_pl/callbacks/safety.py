"""Numerical accidents: bad gradients are skipped, lost runs go back, hopeless ones end with advice."""

from __future__ import annotations

import copy
import sys
from typing import Any, final

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

EMPTY, FULL = 0.005, 0.97  # mean opacity of a picture below or above which nothing can be recognized


class DivergedError(ValueError):
    """Nothing can come of this run; the message says what to change. Another seed may do better."""


@final
class Safety(Callback):
    """Watches gradients and opacity.

    A gradient that is not finite becomes zero (on the device: nothing waits for it), so that only the
    optimizer's momentum moves the weights in this step. Every ``every``
    steps the callback looks: with no such step it remembers the state, with ``patience`` or more it goes
    back to the state remembered, and after ``rollbacks`` of these training ends. An object that vanished, or
    fills the picture, is reported once; if it stays so for ``lost`` looks in a row, training ends.

    Args:
        every: steps between two looks.
        patience: such steps between two looks that send the run back.
        rollbacks: how often it may be sent back.
        lost: looks in a row at nothing, or at nothing but the object, that end training; 0: none do.

    Raises:
        ValueError: an argument is not positive.
    """

    def __init__(self, every: int = 25, patience: int = 10, rollbacks: int = 3, lost: int = 4) -> None:
        if min(every, patience) < 1 or min(rollbacks, lost) < 0:
            raise ValueError(
                "every and patience must be 1 or more, rollbacks and lost 0 or more, "
                f"got {every}, {patience}, {rollbacks} and {lost}"
            )
        self.every, self.patience, self.rollbacks, self.lost = every, patience, rollbacks, lost
        self.notes: list[str] = []
        self._good: tuple[dict[str, Any], list[dict[str, Any]]] | None = None
        self._bad = torch.zeros(())  # steps since the last look whose gradient was not finite
        self._forget()

    @property
    def skipped(self) -> int:
        """Steps so far whose gradient was not finite."""
        return self._skipped + int(self._bad)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget an earlier fit."""
        if stage == "fit":
            self._forget()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember where training starts, unless a checkpoint says what to remember."""
        self._bad = self._bad.to(pl_module.device)
        if self._good is None:
            self._remember(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep what later looks depend on, with the state to go back to where that is not the current one."""
        checkpoint["safety"] = {
            "notes": list(self.notes),
            "went_back": self._went_back,
            "skipped": self._skipped,
            "bad": int(self._bad),
            "lost_looks": self._lost_looks,
            "looked": self._looked,
            "good": None if self._good_step == trainer.global_step else self._good,
        }

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take it back."""
        if trainer.state.fn != "fit" or "safety" not in checkpoint:
            return
        known = checkpoint["safety"]
        self.notes, self._good = list(known["notes"]), known["good"]
        self._went_back, self._skipped = known["went_back"], known["skipped"]
        self._lost_looks, self._looked = known["lost_looks"], known["looked"]
        self._bad = torch.tensor(float(known["bad"]))

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Replace a gradient that is not finite by zero, and count it."""
        gradients = [
            p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None
        ]
        finite = torch.stack([gradient.isfinite().all() for gradient in gradients]).all()
        for gradient in gradients:
            gradient.copy_(torch.where(finite, gradient, torch.zeros_like(gradient)))
        self._bad += (~finite).to(self._bad)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look when it is time, once for every step of the optimizer."""
        if trainer.global_step % self.every == 0 and trainer.global_step != self._looked:
            self._looked = trainer.global_step
            self._look(trainer, pl_module)

    def _forget(self) -> None:
        self.notes, self._went_back, self._skipped, self._lost_looks = [], 0, 0, 0
        self._looked = 0  # the last step that was looked at
        self._bad = torch.zeros(())
        self._good, self._good_step = None, -1  # the state to go back to, and its step

    def _remember(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._good, self._good_step = _state(trainer, pl_module), trainer.global_step

    def _look(self, trainer: Trainer, pl_module: LightningModule) -> None:
        bad = int(self._bad)
        self._bad.zero_()
        self._skipped += bad
        is_sound = all(bool(parameter.isfinite().all()) for parameter in pl_module.parameters())
        if bad == 0 and is_sound:
            self._remember(trainer, pl_module)
        elif bad >= self.patience or not is_sound:
            self._go_back(trainer, pl_module)
        opacity = trainer.callback_metrics.get("opacity")
        if opacity is not None and trainer.global_step > 0.2 * trainer.max_steps:
            self._watch_opacity(trainer, float(opacity))

    def _go_back(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._good is not None
        if self._went_back >= self.rollbacks:
            raise _end(
                trainer,
                f"training diverged: {self._skipped} steps had a gradient that is not finite, and going back "
                f"to the last good state {self.rollbacks} times did not help. Lower --model.learning_rate or "
                "--model.distillation.guidance_scale, or compute in --trainer.precision 32",
            )
        self._went_back += 1
        pl_module.load_state_dict(self._good[0])
        for optimizer, state in zip(trainer.optimizers, self._good[1], strict=True):
            optimizer.load_state_dict(copy.deepcopy(state))
        self._good_step = trainer.global_step
        self._note(
            trainer,
            f"gradients were not finite; went back to the last good state at step {trainer.global_step}",
        )

    def _watch_opacity(self, trainer: Trainer, opacity: float) -> None:
        is_lost = opacity < EMPTY or opacity > FULL  # what is no number is the gradients' affair
        if trainer.world_size > 1:  # every rank sees views of its own; they end together
            is_lost = bool(trainer.strategy.reduce_boolean_decision(is_lost))
        if not is_lost:
            self._lost_looks = 0
            return
        self._lost_looks += 1
        note = (
            "the object has vanished: lower --model.regularizers.opacity, or take another seed"
            if opacity < EMPTY
            else "the object fills the picture: raise --model.regularizers.opacity, or take another seed"
        )
        self._note(trainer, note)
        if self._lost_looks == self.lost:
            advice = f"{note}. It has been so for {self.lost * self.every} steps, and training ends here"
            raise _end(trainer, advice)

    def _note(self, trainer: Trainer, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)
            if trainer.is_global_zero:
                print(f"dreamfusion_pl: warning: {note}", file=sys.stderr, flush=True)


def _end(trainer: Trainer, advice: str) -> DivergedError | SystemExit:
    """What ends training. The status is rank 0's alone: Lightning kills it when another process fails."""
    return DivergedError(advice) if trainer.is_global_zero else SystemExit(0)


def _state(trainer: Trainer, pl_module: LightningModule) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    weights = {name: value.detach().clone() for name, value in pl_module.state_dict().items()}
    return weights, [copy.deepcopy(optimizer.state_dict()) for optimizer in trainer.optimizers]
