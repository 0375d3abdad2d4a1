"""View-dependent prompts (paper 3.2, A.2)."""

from __future__ import annotations

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
    """How a prompt says from where the object is seen.

    Args:
        negative_prompt: the text of the unconditional branch of classifier-free guidance.
        directions: how many names of azimuths the prompt may be given: the paper's 4 quadrants, of which both
            sides have one name; 8, which tell left from right, for a prior that knows them; 0: no names.
        overhead_deg: above this elevation a view is an overhead view, in [0, 90]; 90: none is.
        front_deg: of 4 directions: up to this distance of azimuth from the front a view is a front view.
        back_deg: of 4 directions: from this distance of azimuth on a view is a back view; between the two it
            is a side view.
        view_prompts: whole texts of directions, in place of the prompt with the direction's name. The keys
            of 4 directions are front, side, back, overhead; of 8 front, front_left, left_side and so on.
        view_embedding: ``nearest`` takes the text of the direction that a view is named by; ``interpolated``
            mixes those of the two neighbouring directions by azimuth, and the overhead one by elevation.
        perp_neg: weights of the texts of front and side as negatives; None: there are no negatives.

    Raises:
        ValueError: the angles are not in order, a key is no direction, a direction's text is empty or no
            text, or directions are wanted where there are none.
    """

    def __init__(
        self,
        negative_prompt: str = "",
        directions: Directions = 4,
        overhead_deg: float = 60.0,
        front_deg: float = 45.0,
        back_deg: float = 135.0,
        view_prompts: dict[str, str] | None = None,
        view_embedding: ViewEmbedding = "nearest",
        perp_neg: PerpNeg | None = None,
    ) -> None:
        between = view_embedding == "interpolated" or perp_neg is not None
        if directions == 0 and (view_prompts or between):
            raise ValueError(
                "directions 0 names no views: view_prompts, interpolated embeddings and perp_neg need 4 or 8"
            )
        view_names.check_thresholds(directions, overhead_deg, front_deg, back_deg, strictly=between)
        self.negative_prompt, self.directions = negative_prompt, directions
        self.overhead_deg, self.front_deg, self.back_deg = overhead_deg, front_deg, back_deg
        self.view_prompts = _checked(view_prompts or {}, directions)
        self.view_embedding, self.perp_neg = view_embedding, perp_neg

    def texts(self, prompt: str) -> list[str]:
        """Return what is embedded for every direction, in the order of ``view_names``.

        Raises:
            ValueError: the prompt is empty or no text.
        """
        prompt = check_prompt(prompt)
        if not self.directions:
            return [prompt]
        keys, names = view_names.keys(self.directions), view_names.VIEW_NAMES[self.directions]
        return [
            self.view_prompts.get(key, f"{prompt}, {name}") for key, name in zip(keys, names, strict=True)
        ]

    def embed(self, prior: DiffusionPrior, prompt: str) -> EmbeddedPrompts:
        """Embed the texts of all directions, each once.

        Args:
            prior: the model that embeds.
            prompt: what to make.

        Raises:
            ValueError: the prompt is empty or no text.
        """
        return EmbeddedPrompts(self, prior, self.texts(prompt))


@final
class EmbeddedPrompts:
    """The texts of all directions in a prior's numbers: views in, conditions out.

    Args:
        settings: says which text belongs to a view.
        prior: the model that embeds.
        texts: of the K directions.
    """

    def __init__(self, settings: ViewDependentPrompts, prior: DiffusionPrior, texts: list[str]) -> None:
        self.settings, self.texts = settings, texts
        self._table = prior.embed([*texts, settings.negative_prompt])  # K + 1 texts

    def __call__(self, views: Views) -> Condition:
        """Return the embeddings that belong to B views, on the views' device."""
        self._table = self._table.to(views.azimuth_deg.device)
        is_nearest = self.settings.view_embedding == "nearest"
        text = self._nearest(views) if is_nearest else self._interpolated(views)
        return Condition(text, self._table.rows(slice(-1, None)), self._negatives(views))

    def _nearest(self, views: Views) -> TextEmbedding:
        elevation, azimuth, how = views.elevation_deg, views.azimuth_deg, self.settings
        if how.directions == 0:
            index = torch.zeros_like(azimuth, dtype=torch.long)
        elif how.directions == 8:
            index = view_names.octant_index(elevation, azimuth, how.overhead_deg)
        else:
            index = view_names.view_index(elevation, azimuth, how.overhead_deg, how.front_deg, how.back_deg)
        return self._table.rows(index)

    def _interpolated(self, views: Views) -> TextEmbedding:
        how = self.settings
        lower, upper, share = view_names.neighbours(
            views.azimuth_deg, how.directions, how.front_deg, how.back_deg
        )
        around = self._table.rows(lower).mix(self._table.rows(upper), share)
        overhead = self._table.rows(slice(-2, -1)).expand(len(share))
        return around.mix(overhead, view_names.overhead_share(views.elevation_deg, how.overhead_deg))

    def _negatives(self, views: Views) -> Negatives | None:
        """The texts of front and side, with no weight where the view's own text is the overhead one."""
        how = self.settings
        if how.perp_neg is None:
            return None
        if how.view_embedding == "nearest":
            overhead = (views.elevation_deg > how.overhead_deg).to(views.elevation_deg)
        else:
            overhead = view_names.overhead_share(views.elevation_deg, how.overhead_deg)
        place = view_names.front_to_back(views.azimuth_deg, how.front_deg, how.back_deg)
        side = view_names.side_index(views.azimuth_deg, how.directions)
        index = torch.cat([torch.zeros_like(side), side])  # the front is the first of the names
        return Negatives(self._table.rows(index), (1.0 - overhead) * how.perp_neg(place))


def _checked(view_prompts: dict[str, str], directions: Directions) -> dict[str, str]:
    """Return the texts of directions without outer spaces; ValueError where there is no such direction."""
    known = view_names.keys(directions)
    for key, text in view_prompts.items():
        if key not in known:
            raise ValueError(f"view_prompts: no direction {key!r}; those of {directions}: {', '.join(known)}")
        try:
            check_prompt(text)
        except ValueError as error:
            raise ValueError(f"view_prompts.{key}: {error}") from error
    return {key: text.strip() for key, text in view_prompts.items()}
