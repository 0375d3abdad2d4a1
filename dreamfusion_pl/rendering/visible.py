"""Work on visible samples only: those with a noticeable compositing weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from dreamfusion_pl.rendering.ray_batch import filled_up
from dreamfusion_pl.rendering.volume import compositing_weights
from dreamfusion_pl.scene.base import Scene

VISIBLE = 1e-4  # compositing weight above which a sample is visible


class Evaluated(NamedTuple):
    """A scene at P points."""

    density: Tensor  # [P]
    appearance: Tensor  # [P, 3 + L], see SceneSample
    normal: Tensor | None  # [P, 3], None if there are no normals per sample


def evaluate_visible(
    scene: Scene, points: Tensor, delta: Tensor, progress: float, evaluate: Callable[[Tensor], Evaluated]
) -> Evaluated:
    """Evaluate the visible samples only; the others have their density, without gradient, and nothing else.

    A density's gradient is proportional to what is seen of it, so that little is lost: behind a surface, and
    where there is hardly any density, samples cost one evaluation of the density. If none is visible, all are
    evaluated, so that gradients can bring an object back.

    Args:
        scene: the scene.
        points: samples along R rays, [R, S, 3].
        delta: their interval lengths, [R, 1] or [R, S].
        progress: training progress in [0, 1].
        evaluate: evaluates the scene at points [P, 3].

    Returns:
        The scene at all R S points.
    """
    flat = points.reshape(-1, 3)
    with torch.no_grad():
        density = scene.density(flat, progress)
        weights = compositing_weights(density.reshape(points.shape[:2]), delta)
    visible = (weights.flatten() > VISIBLE).nonzero()[:, 0]
    if len(visible) == 0:
        return evaluate(flat)
    some = evaluate(flat[filled_up(visible, 1024)])

    def at_all(part: Tensor, elsewhere: Tensor) -> Tensor:
        return elsewhere.index_copy(0, visible, part[: len(visible)])

    def or_zero(part: Tensor) -> Tensor:
        return at_all(part, part.new_zeros(len(flat), part.shape[1]))

    normal = None if some.normal is None else or_zero(some.normal)
    return Evaluated(at_all(some.density, density), or_zero(some.appearance), normal)
