"""Looks at each object of a result by itself, where the truth has two in a relation.

Each is cut out of the result along the middle between the true objects, and seen by cameras that stand to it
as the usual ones do to a single object. An object that is missing, or in another place, is not named.
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.data.orbit import orbit, ring
from dreamfusion_pl.data.world.scenes import WorldScene, locate, placements
from dreamfusion_pl.metrics.alignment import Alignment
from dreamfusion_pl.metrics.looks import Looks, looks
from dreamfusion_pl.scene.base import Scene, SceneSample
from dreamfusion_pl.types import Views


@final
class ItemRegion(Scene):
    """The part of a result that is nearer to one true object than to the others; the rest is empty.

    Args:
        scene: the result.
        truth: the true scene.
        alignment: from the truth's to the result's coordinates.
        item: index of the object in ``truth.items``.
    """

    def __init__(self, scene: Scene, truth: WorldScene, alignment: Alignment, item: int) -> None:
        super().__init__()
        self.scene = scene
        self.radius, self.latent_colors = scene.radius, scene.latent_colors
        self.surface, self.empty_level = scene.surface, scene.empty_level
        self._layout, self._alignment, self._item = truth.layout, alignment, item

    def forward(self, points: Tensor, progress: float) -> SceneSample:
        sample, inside = self.scene(points, progress), self._contains(points)
        level = torch.where(inside, sample.level, self.empty_level)
        return sample._replace(density=sample.density * inside, level=level)

    def density(self, points: Tensor, progress: float) -> Tensor:
        return self.scene.density(points, progress) * self._contains(points)

    def level(self, points: Tensor, progress: float) -> Tensor:
        return torch.where(self._contains(points), self.scene.level(points, progress), self.empty_level)

    def param_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return self.scene.param_groups(learning_rate)

    def _contains(self, points: Tensor) -> Tensor:
        """Return whether the nearest true object is the item, [P, 3] -> bool [P]."""
        return locate(self._layout, self._alignment.to_truth(points)).item == self._item


def looks_at_item(model: DreamFusion, truth: WorldScene, alignment: Alignment, item: int) -> Looks:
    """Render one object of a result from 8 azimuths, unlit, as if it were the only one.

    Args:
        model: the result.
        truth: the true scene.
        alignment: from the truth's to the result's coordinates.
        item: index of the object in ``truth.items``.
    """
    scale, offset = placements(truth.layout)[item]
    views = orbit(ring(8), 15.0, 1.5, 1.2, 64, 64)
    views = views._replace(origin=scale * views.origin + views.origin.new_tensor(offset))
    scene = ItemRegion(model.scene, truth, alignment, item)
    return looks(scene, model.renderer, in_result(views, alignment), model.progress)


def in_result(views: Views, alignment: Alignment) -> Views:
    """Return the cameras that see a result as given ones see the truth."""
    origin = alignment.to_result(views.origin)
    return views._replace(origin=origin, rotation=alignment.rotation(origin) @ views.rotation)
