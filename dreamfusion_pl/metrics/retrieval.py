"""R-Precision: how often an image retrieves its own caption among others (paper section 4)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor
from torchmetrics import Metric

from dreamfusion_pl.data.world.captions import parse
from dreamfusion_pl.data.world.colors import COLORS
from dreamfusion_pl.data.world.objects.catalog import OBJECT_NAMES
from dreamfusion_pl.metrics.classifier import load_classifier


def retrieved(similarity: Tensor, truth: Tensor | int) -> Tensor:
    """Return whether the most similar caption of each image is its own.

    Args:
        similarity: similarity of V images with M captions, [V, M].
        truth: index of the image's own caption, one for all or [V].

    Returns:
        bool [V].
    """
    return similarity.argmax(-1) == torch.as_tensor(truth, device=similarity.device)


class Judge(ABC):
    """A model that scores images against captions."""

    name: str  # for tables

    @abstractmethod
    def similarity(self, pictures: Tensor, captions: list[str]) -> Tensor:
        """Score V images [V, H, W, 3] in [0, 1] against M captions: [V, M], higher is better."""


@final
class RPrecision(Metric):
    """R-Precision: fraction of images whose own caption the judge ranks first.

    The paper uses CLIP as the judge, and the captions of all results as each other's distractors; for
    geometry the images are textureless.

    Args:
        judge: scores images against captions.
        captions: the distinct candidate captions.

    Raises:
        ValueError: there are fewer than two captions, or duplicates.
    """

    full_state_update = False
    right: Tensor
    total: Tensor

    def __init__(self, judge: Judge, captions: list[str]) -> None:
        super().__init__()
        if len(captions) < 2 or len(set(captions)) < len(captions):
            raise ValueError(f"R-Precision needs two or more different captions, got {captions}")
        self.judge, self.captions = judge, captions
        for state in ("right", "total"):
            self.add_state(state, default=torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, pictures: Tensor, caption: str) -> None:
        """Add images [V, H, W, 3] of the object that ``caption`` describes.

        Raises:
            ValueError: the caption is not one of the candidates.
        """
        truth = self.captions.index(caption)
        right = retrieved(self.judge.similarity(pictures, self.captions), truth)
        self.right += right.float().sum().to(self.right)
        self.total += len(right)

    def compute(self) -> Tensor:
        """Return the R-Precision in [0, 1]."""
        return self.right / self.total


@final
class WorldJudge(Judge):
    """The world classifier as a judge, for captions of the procedural world. It is not CLIP.

    The score of a caption is log p(object) + log p(colour) of its first object.

    Args:
        use_color: whether to add the colour's score; False judges geometry only.
    """

    name = "world classifier"

    def __init__(self, use_color: bool = True) -> None:
        self.use_color = use_color
        self._classifier = load_classifier()

    @torch.no_grad()
    def similarity(self, pictures: Tensor, captions: list[str]) -> Tensor:
        """Score images against captions.

        Raises:
            ValueError: a caption is not one of the procedural world.
        """
        scenes = [parse(caption) for caption in captions]
        unknown = [caption for caption, scene in zip(captions, scenes, strict=True) if scene is None]
        if unknown:
            raise ValueError(f"the world classifier does not know what {unknown} mean")
        items = [scene.items[0] for scene in scenes if scene is not None]
        scores = self._classifier(pictures.cpu())
        similarity = scores.object[:, [OBJECT_NAMES.index(item.object) for item in items]]
        if self.use_color:
            similarity = similarity + scores.color[:, [tuple(COLORS).index(item.color) for item in items]]
        return similarity
