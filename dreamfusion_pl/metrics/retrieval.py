"""R-Precision: can the caption be found from the picture, among others? (paper section 4)."""

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
    """Whether the most similar caption of each picture is its own.

    Args:
        similarity: of V pictures with M captions, [V, M].
        truth: index of the own caption, one for all or [V].

    Returns:
        bool [V].
    """
    return similarity.argmax(-1) == torch.as_tensor(truth, device=similarity.device)


class Judge(ABC):
    """Something that scores pictures against captions."""

    name: str  # for tables

    @abstractmethod
    def similarity(self, pictures: Tensor, captions: list[str]) -> Tensor:
        """Score V pictures [V, H, W, 3] in [0, 1] against M captions: [V, M], higher is better."""


@final
class RPrecision(Metric):
    """Share of pictures whose own caption a judge ranks first among all (R-Precision).

    The paper's is this with a CLIP judge, and captions of all results as each other's distractors; for
    geometry the pictures are textureless.

    Args:
        judge: scores pictures against captions.
        captions: the distinct captions to choose from.

    Raises:
        ValueError: there is nothing to choose from, or a caption comes twice.
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
        """Judge pictures [V, H, W, 3] of the object that ``caption`` asked for.

        Raises:
            ValueError: the caption is not among those to choose from.
        """
        truth = self.captions.index(caption)
        right = retrieved(self.judge.similarity(pictures, self.captions), truth)
        self.right += right.float().sum().to(self.right)
        self.total += len(right)

    def compute(self) -> Tensor:
        """The share, in [0, 1]."""
        return self.right / self.total


@final
class WorldJudge(Judge):
    """The project's own world classifier as a judge of captions of the procedural world. It is not CLIP.

    The score of a caption is log p(object) + log p(colour) of its first object.

    Args:
        use_color: count the colour; False judges geometry.
    """

    name = "world classifier"

    def __init__(self, use_color: bool = True) -> None:
        self.use_color = use_color
        self._classifier = load_classifier()

    @torch.no_grad()
    def similarity(self, pictures: Tensor, captions: list[str]) -> Tensor:
        """Score pictures against captions.

        Raises:
            ValueError: a caption is none of the world's.
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
