"""Plots how the images or points of a playground moved during optimization."""

from __future__ import annotations

from typing import Any, final

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from dreamfusion_pl.diffusion.closed_form import ClosedFormPrior
from dreamfusion_pl.playground import Playground
from dreamfusion_pl.run_folder import layout

MAP_SIZE = 384  # side of a map in pixels
START, END = torch.tensor([0.1, 0.3, 1.0]), torch.tensor([1.0, 0.2, 0.0])  # colours of first and last steps


@final
class Trajectory(Callback):
    """Writes ``trajectory.png`` to the run folder and to TensorBoard when a playground's training ends.

    2D points are drawn as paths, from blue to red, over the density of a closed-form prior. Images are drawn
    as one row each, from early to late.

    Args:
        snapshots: number of states that are kept during training, 2 or more.

    Raises:
        ValueError: ``snapshots`` is below 2.
    """

    def __init__(self, snapshots: int = 60) -> None:
        if snapshots < 2:
            raise ValueError(f"snapshots must be 2 or more, got {snapshots}")
        self.snapshots = snapshots
        self._states: list[Tensor] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Store the initial state."""
        self._states = []
        self._keep(pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Store a state at regular intervals."""
        every = max(trainer.max_steps // (self.snapshots - 1), 1)
        if trainer.global_step % every == 0 or trainer.global_step == trainer.max_steps:
            self._keep(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw and write the plot."""
        if not trainer.is_global_zero:
            return
        from dreamfusion_pl.export.files import images

        assert isinstance(pl_module, Playground)
        states = torch.stack(self._states)  # [N, B, H, W, C]
        is_plane = states.shape[2:] == (1, 1, 2) and isinstance(pl_module.prior, ClosedFormPrior)
        picture = density_map(pl_module, states[:, :, 0, 0]) if is_plane else film_strip(states)
        run = layout.run_folder(trainer)
        run.mkdir(parents=True, exist_ok=True)
        images.write_png(picture, run / layout.TRAJECTORY)
        writer = layout.tensorboard(trainer)
        if writer is not None:
            writer.add_image("trajectory", picture, trainer.global_step, dataformats="HWC")

    def _keep(self, model: LightningModule) -> None:
        assert isinstance(model, Playground)
        with torch.no_grad():
            self._states.append(model.parametrization().detach().cpu().clone())


@torch.no_grad()
def density_map(model: Playground, paths: Tensor) -> Tensor:
    """Draw 2D paths over the prior's density.

    Args:
        model: the playground, which gives the density under its prompt.
        paths: positions of B points in N states, [N, B, 2]; x points right, y up.

    Returns:
        Image [MAP_SIZE, MAP_SIZE, 3] in [0, 1].
    """
    half = 1.15 * float(paths.abs().max())
    axis = torch.linspace(-half, half, MAP_SIZE)
    up, right = torch.meshgrid(axis.flip(0), axis, indexing="ij")
    points = torch.stack([right, up], dim=-1).reshape(-1, 2, 1, 1).to(model.device)
    density = model.log_density(points).cpu().reshape(MAP_SIZE, MAP_SIZE)
    shade = torch.exp(0.25 * (density - density.max()))  # compressed, so that the tails are visible
    picture = (1.0 - 0.6 * shade)[..., None].repeat(1, 1, 3)
    steps = torch.linspace(0.0, 1.0, 12)[:, None, None, None]
    lines = paths[:-1] + steps * (paths[1:] - paths[:-1])  # [12, N - 1, B, 2]
    column = ((lines[..., 0] / half + 1.0) * 0.5 * (MAP_SIZE - 1)).round().long().clamp(0, MAP_SIZE - 1)
    row = ((1.0 - lines[..., 1] / half) * 0.5 * (MAP_SIZE - 1)).round().long().clamp(0, MAP_SIZE - 1)
    time = torch.linspace(0.0, 1.0, lines.shape[1])
    for state, amount in enumerate(time.tolist()):  # later states over earlier ones
        picture[row[:, state], column[:, state]] = torch.lerp(START, END, amount)
    return picture


def film_strip(states: Tensor, rows: int = 4, columns: int = 8) -> Tensor:
    """Lay out the states [N, B, H, W, C] of the first images, one row each, early to late: [H', W', 3]."""
    chosen = torch.linspace(0, len(states) - 1, min(columns, len(states))).round().long()
    strip = states[chosen][:, :rows, ..., :3]
    pictures = strip if strip.shape[-1] == 3 else strip[..., :1].expand(*strip.shape[:-1], 3)
    return torch.cat([torch.cat(list(row), dim=1) for row in pictures.transpose(0, 1)]).clamp(0.0, 1.0)
