"""View-dependent prompts (paper 3.2, A.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, final

import torch

from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.diffusion.text import view_names
from dreamfusion_pl.diffusion.text.perp_neg import PerpNeg
from dreamfusion_pl.diffusion.text.prompt_check import check_prompt
from dreamfusion_pl.diffusion.text.view_names import Directions
from dreamfusion_pl.types import Condition, Negatives, TextEmbedding, Views

ViewEmbedding = Literal["nearest", "interpolated"]


@final
class ViewDependentPrompts:
    """Says in the prompt from where the object is seen. Every text is embedded once, here.

    Args:
        prior: the model that embeds the texts.
        prompt: what to make.
        negative_prompt: the text of the unconditional branch of classifier-free guidance.
        directions: names of azimuths that are appended to the prompt: the paper's 4 quadrants, of which both
            sides have one name; 8, which tell left from right, for a prior that knows them; 0: no names.
        overhead_deg: above this elevation a view is an overhead view; 90: none is.
        front_deg: of 4 names: up to this distance of azimuth from the front a view is a front view.
        back_deg: from this distance of azimuth on a view is a back view; between the two it is a side view.
        view_prompts: whole texts of directions, in place of the prompt with the direction's name. The keys
            of 4 directions are front, side, back, overhead; of 8 front, front_left, left_side and so on.
        view_embedding: ``nearest`` takes the text of the direction that a view is named by; ``interpolated``
            mixes those of the two neighbouring directions by azimuth, and the overhead one by elevation.
        perp_neg: weights of the texts of front and side as negatives; None: there are no negatives.

    Raises:
        ValueError: the prompt, or a direction's text, is empty or no text; the angles are not in order; a key
            is no direction, or directions are wanted where there are none.
    """

    def __init__(
        self,
        prior: DiffusionPrior,
        prompt: str,
        negative_prompt: str = "",
        directions: Directions = 4,
        overhead_deg: float = 60.0,
        front_deg: float = 45.0,
        back_deg: float = 135.0,
        view_prompts: Mapping[str, str] | None = None,
        view_embedding: ViewEmbedding = "nearest",
        perp_neg: PerpNeg | None = None,
    ) -> None:
        between = view_embedding == "interpolated" or perp_neg is not None
        if directions == 0 and (view_prompts or between):
            raise ValueError(
                "directions 0 names no views: view_prompts, interpolated embeddings and perp_neg need 4 or 8"
            )
        view_names.check_thresholds(directions, overhead_deg, front_deg, back_deg, strictly=between)
        self.overhead_deg, self.front_deg, self.back_deg = overhead_deg, front_deg, back_deg
        self.directions, self.view_embedding, self.perp_neg = directions, view_embedding, perp_neg
        self.texts = _texts(check_prompt(prompt), directions, view_prompts or {})
        self._table = prior.embed([*self.texts, negative_prompt])  # K + 1 texts

    def __call__(self, views: Views) -> Condition:
        """Return the embeddings that belong to B views, on the views' device."""
        self._table = self._table.to(views.azimuth_deg.device)
        text = self._nearest(views) if self.view_embedding == "nearest" else self._interpolated(views)
        return Condition(text, self._table.rows(slice(-1, None)), self._negatives(views))

    def _nearest(self, views: Views) -> TextEmbedding:
        if self.directions == 0:
            index = torch.zeros_like(views.azimuth_deg, dtype=torch.long)
        elif self.directions == 8:
            index = view_names.octant_index(views.elevation_deg, views.azimuth_deg, self.overhead_deg)
        else:
            index = view_names.view_index(
                views.elevation_deg, views.azimuth_deg, self.overhead_deg, self.front_deg, self.back_deg
            )
        return self._table.rows(index)

    def _interpolated(self, views: Views) -> TextEmbedding:
        lower, upper, share = view_names.neighbours(
            views.azimuth_deg, self.directions, self.front_deg, self.back_deg
        )
        around = self._table.rows(lower).mix(self._table.rows(upper), share)
        overhead = self._table.rows(slice(-2, -1)).expand(len(share))
        return around.mix(overhead, view_names.overhead_share(views.elevation_deg, self.overhead_deg))

    def _negatives(self, views: Views) -> Negatives | None:
        """The texts of front and side, with no weight where the view's own text is the overhead one."""
        if self.perp_neg is None:
            return None
        if self.view_embedding == "nearest":
            overhead = (views.elevation_deg > self.overhead_deg).to(views.elevation_deg)
        else:
            overhead = view_names.overhead_share(views.elevation_deg, self.overhead_deg)
        place = view_names.front_to_back(views.azimuth_deg, self.front_deg, self.back_deg)
        side = view_names.side_index(views.azimuth_deg, self.directions)
        index = torch.cat([torch.zeros_like(side), side])  # the front is the first of the names
        return Negatives(self._table.rows(index), (1.0 - overhead) * self.perp_neg(place))


def _texts(prompt: str, directions: Directions, view_prompts: Mapping[str, str]) -> list[str]:
    """Return what is to be embedded for every direction, in the order of the names."""
    known = view_names.keys(directions)
    for key, text in view_prompts.items():
        if key not in known:
            raise ValueError(f"view_prompts: no direction {key!r}; those of {directions}: {', '.join(known)}")
        try:
            check_prompt(text)
        except ValueError as error:
            raise ValueError(f"view_prompts.{key}: {error}") from error
    if not directions:
        return [prompt]
    named = zip(known, view_names.VIEW_NAMES[directions], strict=True)
    return [view_prompts[key].strip() if key in view_prompts else f"{prompt}, {name}" for key, name in named]
