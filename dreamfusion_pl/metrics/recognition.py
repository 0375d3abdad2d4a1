"""Recognition accuracy of the world classifier, as a torchmetrics ``Metric``."""

from __future__ import annotations

from typing import NamedTuple, final

import torch
from torch import Tensor
from torchmetrics import Metric

from dreamfusion_pl.data.world.objects.catalog import OBJECT_NAMES
from dreamfusion_pl.metrics.classifier import COLOR_NAMES, WorldClassifier, load_classifier

MARGIN = 0.5  # lead in probability with which a name counts as certain
VISIBLE, SOLID = 0.05, 0.5  # opacities from which a pixel shows something, and shows a surface


class StrictLook(NamedTuple):
    """How surely a classifier names an object in each of B pictures by itself."""

    lead: Tensor  # [B] probability of the true name minus the highest of all others, in [-1, 1]; -1 for fog

    @property
    def share(self) -> float:
        """Share of the pictures in which the true name leads by ``MARGIN`` or more."""
        return float((self.lead >= MARGIN).float().mean())

    @property
    def worst(self) -> float:
        """Lead in the worst picture; below 0 if another name is more likely there."""
        return float(self.lead.min())


def strictly(classifier: WorldClassifier, pictures: Tensor, opacity: Tensor, name: str) -> StrictLook:
    """Look at every picture by itself, against all names of the world.

    A blob, a fog or noise has a likeliest name too. The mean over all sides may then be right by chance or by
    a few good sides; a clear lead from every side is not. A picture in which less than half of what is seen
    is opaque shows a fog and no object, whatever its outline resembles.

    Args:
        classifier: the classifier.
        pictures: images of one object from several sides, [B, H, W, 3] in [0, 1].
        opacity: of their pixels, [B, H, W] in [0, 1].
        name: the true object.
    """
    likely = classifier(pictures).object.exp()
    index = OBJECT_NAMES.index(name)
    others = likely.index_fill(1, torch.tensor(index, device=likely.device), 0.0)
    visible, solid = ((opacity > least).sum((1, 2)) for least in (VISIBLE, SOLID))
    is_fog = (2 * solid < visible) | (solid == 0)
    return StrictLook(torch.where(is_fog, -1.0, likely[:, index] - others.amax(-1)))


def recognized(classifier: WorldClassifier, pictures: Tensor, name: str, color: str) -> tuple[bool, bool]:
    """Return whether a classifier names object and colour correctly, from mean log-probabilities.

    Args:
        classifier: the classifier.
        pictures: images of one object from several sides, [B, H, W, 3] in [0, 1].
        name: the true object.
        color: the true colour.

    Returns:
        (object correct, colour correct).
    """
    scores = classifier(pictures)
    best_object = OBJECT_NAMES[int(scores.object.mean(dim=0).argmax())]
    best_color = COLOR_NAMES[int(scores.color.mean(dim=0).argmax())]
    return best_object == name, best_color == color


@final
class Recognition(Metric):
    """Fraction of objects and of colours that the world classifier names correctly.

    Args:
        classifier: the classifier; the packaged one by default.
    """

    full_state_update = False
    objects_right: Tensor
    colors_right: Tensor
    total: Tensor

    def __init__(self, classifier: WorldClassifier | None = None) -> None:
        super().__init__()
        self.classifier = classifier if classifier is not None else load_classifier()
        for state in ("objects_right", "colors_right", "total"):
            self.add_state(state, default=torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, pictures: Tensor, name: str, color: str) -> None:
        """Classify one object from images [B, H, W, 3]."""
        with torch.no_grad():
            right = recognized(self.classifier, pictures, name, color)
        self.objects_right += float(right[0])
        self.colors_right += float(right[1])
        self.total += 1.0

    def compute(self) -> dict[str, Tensor]:
        """Return accuracies in [0, 1] under ``object`` and ``color``."""
        return {"object": self.objects_right / self.total, "color": self.colors_right / self.total}
