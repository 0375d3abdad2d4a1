"""A prior with the exact score of true pictures, in place of a network.

Its data are pictures of one object of the world: random cameras and lights, a gray background. Given a text
that names a view, they are those of the pictures that the name describes; given the empty text, all. The
score of such data under noise is a mean over the pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self, final

import torch
from torch import Tensor

from dreamfusion_pl.atomic import replacing
from dreamfusion_pl.data.world.captions import parse
from dreamfusion_pl.data.world.layers import sample_views
from dreamfusion_pl.data.world.tracer import render_world
from dreamfusion_pl.diffusion.families.pretrained import PretrainedPrior
from dreamfusion_pl.diffusion.noise import per_row
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.diffusion.text.view_names import VIEW_NAMES, grid_index, octant_index
from dreamfusion_pl.rng import generator
from dreamfusion_pl.scene.background import Background
from dreamfusion_pl.types import TextEmbedding, Views

GRAY = 0.5
SIZE = 64
AT_ONCE = 32  # pictures traced in one call


@final
class ExactPrior(DiffusionPrior):
    """Pictures that are one of a file's, each as likely as any other of those that a text describes.

    Args:
        file: written by ``trace_pictures``.
    """

    resolution, channels, differentiable = SIZE, 3, True

    def __init__(self, file: str) -> None:
        stored = torch.load(file, weights_only=True)
        self._pictures = stored["pictures"].float().flatten(1)  # [K, D]
        self._squares = self._pictures.square().sum(1)
        elevation, azimuth = stored["angles_deg"].unbind(1)
        self._names = {8: octant_index(elevation, azimuth, 60.0), 48: grid_index(elevation, azimuth)}
        self.schedule = PretrainedPrior("builtin").schedule

    def to(self, device: torch.device | str) -> Self:
        return self

    def encode(self, rgb: Tensor, progress: float) -> Tensor:
        return self.resize(2.0 * rgb - 1.0)

    def decode(self, z: Tensor) -> Tensor:
        return 0.5 * z.detach().permute(0, 2, 3, 1) + 0.5

    def embed(self, prompts: list[str]) -> TextEmbedding:
        """Return which pictures each text describes, a token [1, K] of zeros and ones."""
        rows = []
        for prompt in prompts:
            name = prompt.partition(", ")[2]
            directions = 48 if "elevation" in name else 8
            known = self._names[directions]
            if prompt and name not in VIEW_NAMES[directions]:
                raise ValueError(f"{prompt!r} names no view; names are {', '.join(VIEW_NAMES[directions])}")
            index = VIEW_NAMES[directions].index(name) if prompt else None
            rows.append(torch.ones(len(known)) if index is None else (known == index).float())
        return TextEmbedding(torch.stack(rows)[:, None])

    def predict(self, z_t: Tensor, t: Tensor, text: TextEmbedding) -> Tensor:
        alpha, sigma = per_row(self.schedule.alpha(t)), per_row(self.schedule.sigma(t))
        z, a, s = z_t.flatten(1), alpha[:, :, 0, 0], sigma[:, :, 0, 0]
        likelihood = (2.0 * a * (z @ self._pictures.T) - a.square() * self._squares) / (2.0 * s.square())
        x0 = (likelihood + text.tokens[:, 0].log()).softmax(1) @ self._pictures
        return (z_t - alpha * x0.view_as(z_t)) / sigma


@final
class Gray(Background):
    """Gray."""

    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return []

    def forward(self, directions: Tensor, views: Views) -> Tensor:
        return torch.full_like(directions, GRAY)


def trace_pictures(prompt: str, count: int, file: Path) -> None:
    """Write pictures [K, 3, 64, 64] in [-1, 1] of a prompt's object, and their elevations and azimuths."""
    scene, rng, pictures, angles = parse(prompt), generator(0, "exact prior"), [], []
    assert scene is not None, prompt
    for _ in range(-(-count // AT_ONCE)):
        views = sample_views(AT_ONCE, SIZE, rng, (-10.0, 80.0))
        rgb = render_world(scene, views).over(torch.full((AT_ONCE, 3), GRAY))
        pictures.append((2.0 * rgb - 1.0).permute(0, 3, 1, 2).half())
        angles.append(torch.stack([views.elevation_deg, views.azimuth_deg], dim=1))
    with replacing(file) as temporary:
        torch.save({"pictures": torch.cat(pictures), "angles_deg": torch.cat(angles)}, temporary)
