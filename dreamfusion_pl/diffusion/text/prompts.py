"""View-dependent prompts (paper 3.2, A.2)."""

from __future__ import annotations

from typing import Literal, final

import torch

from dreamfusion_pl.diffusion.placeholder import PlaceholderPrior
from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.diffusion.text import view_names
from dreamfusion_pl.diffusion.text.perp_neg import PerpNeg
from dreamfusion_pl.diffusion.text.prompt_check import check_prompt
from dreamfusion_pl.diffusion.text.view_names import Directions
from dreamfusion_pl.types import Condition, Negatives, TextEmbedding, Views

ViewEmbedding = Literal["nearest", "interpolated"]


@final
class ViewDependentPrompts:
    """Settings of view-dependent prompts, which name the direction of each view.

    Args:
        negative_prompt: the text of the unconditional branch of classifier-free guidance.
        directions: number of directions that are named besides overhead: 4, the paper's quadrants, where both
            sides have the same name; 8, which tell left from right; 48, these 8 at elevations of 0, 15, 30,
            45, 60 and 75 degrees ("front view, elevation 30"), without overhead; 0: none. 8 and 48 are for
            priors that were trained with such names.
        overhead_deg: above this elevation a view is an overhead view, in [0, 90]; 90: never.
        front_deg: for 4 directions: up to this azimuth from the front, a view is a front view.
        back_deg: for 4 directions: at this azimuth from the front or more, a view is a back view; between the
            two it is a side view.
        view_prompts: full texts for some directions, used in place of the prompt and the direction's name.
            The keys for 4 directions are front, side, back, overhead; for 8 front, front_left, left_side and
            so on; for 48 front_0, front_left_0 and so on.
        view_embedding: ``nearest`` uses the text of the view's direction; ``interpolated`` blends the texts
            of the two neighbouring directions by azimuth, and those of the two neighbouring elevations, or
            the overhead text, by elevation.
        perp_neg: weights of the front and side texts as negative prompts; None: no Perp-Neg.

    Raises:
        ValueError: the angles are not in order, a key is not a direction, a direction's text is empty or not
            a string, or an option needs directions and there are none.
    """

    def __init__(
        self,
        negative_prompt: str = "",
        directions: Directions = 4,
        overhead_deg: float = view_names.OVERHEAD_DEG,
        front_deg: float = 45.0,
        back_deg: float = 135.0,
        view_prompts: dict[str, str] | None = None,
        view_embedding: ViewEmbedding = "nearest",
        perp_neg: PerpNeg | None = None,
    ) -> None:
        blends = view_embedding == "interpolated" or perp_neg is not None
        if directions == 0 and (view_prompts or blends):
            raise ValueError(
                "directions 0 names no views: view_prompts, interpolated embeddings and perp_neg need 4, 8 "
                "or 48"
            )
        view_names.check_thresholds(directions, overhead_deg, front_deg, back_deg, strictly=blends)
        self.negative_prompt, self.directions = negative_prompt, directions
        self.overhead_deg, self.front_deg, self.back_deg = overhead_deg, front_deg, back_deg
        self.view_prompts = _checked(view_prompts or {}, directions)
        self.view_embedding, self.perp_neg = view_embedding, perp_neg

    def texts(self, prompt: str) -> list[str]:
        """Return the text of each direction, in the order of ``view_names``.

        Raises:
            ValueError: the prompt is empty or not a string.
        """
        prompt = check_prompt(prompt)
        if not self.directions:
            return [prompt]
        keys, names = view_names.keys(self.directions), view_names.VIEW_NAMES[self.directions]
        return [
            self.view_prompts.get(key, f"{prompt}, {name}") for key, name in zip(keys, names, strict=True)
        ]

    def embed(
        self,
        prior: DiffusionPrior,
        prompt: str,
        source_text: str | None = None,
        source_is_of_prompt: bool = False,
    ) -> EmbeddedPrompts:
        """Embed the texts of all directions, each once.

        Args:
            prior: the model that embeds.
            prompt: description of the object.
            source_text: ``Distillation.source_text``.
            source_is_of_prompt: as in ``Distillation``.

        Raises:
            ValueError: the prompt is empty or not a string, or the source text says nothing of its own.
        """
        return EmbeddedPrompts(self, prior, self.texts(prompt), source_text, source_is_of_prompt)


@final
class EmbeddedPrompts:
    """Embedded texts of all directions; maps views to their conditions.

    Args:
        settings: settings that choose the text of each view.
        prior: the model that embeds.
        texts: texts of the K directions.
        source_text: ``Distillation.source_text``; None: no source texts.
        source_is_of_prompt: as in ``Distillation``.
    """

    def __init__(
        self,
        settings: ViewDependentPrompts,
        prior: DiffusionPrior,
        texts: list[str],
        source_text: str | None = None,
        source_is_of_prompt: bool = False,
    ) -> None:
        self.settings, self.texts, self.source_text = settings, texts, source_text
        self._table = prior.embed([*texts, settings.negative_prompt])  # K + 1 texts
        self._sources = None  # as the table
        if source_text is not None:
            rivals = [*texts, settings.negative_prompt]
            self._sources = embed_sources(prior, source_text, source_is_of_prompt, rivals, self._table)

    def __call__(self, views: Views) -> Condition:
        """Return the embeddings of B views and their cameras, on the device of the views."""
        device = views.azimuth_deg.device
        self._table = self._table.to(device)
        source = None
        if self._sources is not None:
            self._sources = self._sources.to(device)
            source = self._of_views(views, self._sources)
        null = self._table.rows(slice(-1, None))
        camera = torch.cat([views.origin, views.rotation.flatten(1)], dim=1)
        return Condition(self._of_views(views, self._table), null, self._negatives(views), source, camera)

    def _of_views(self, views: Views, table: TextEmbedding) -> TextEmbedding:
        """Return the texts of B views from a table of K + 1."""
        if self.settings.view_embedding == "nearest":
            return self._nearest(views, table)
        return self._interpolated(views, table)

    def _nearest(self, views: Views, table: TextEmbedding) -> TextEmbedding:
        elevation, azimuth, settings = views.elevation_deg, views.azimuth_deg, self.settings
        if settings.directions == 0:
            index = torch.zeros_like(azimuth, dtype=torch.long)
        elif settings.directions == 8:
            index = view_names.octant_index(elevation, azimuth, settings.overhead_deg)
        elif settings.directions == 48:
            index = view_names.grid_index(elevation, azimuth)
        else:
            index = view_names.view_index(
                elevation, azimuth, settings.overhead_deg, settings.front_deg, settings.back_deg
            )
        return table.rows(index)

    def _interpolated(self, views: Views, table: TextEmbedding) -> TextEmbedding:
        settings = self.settings
        lower, upper, share = view_names.neighbours(
            views.azimuth_deg, settings.directions, settings.front_deg, settings.back_deg
        )
        if settings.directions == 48:
            below, above, rise = view_names.elevation_neighbours(views.elevation_deg)
            low = table.rows(below + lower).mix(table.rows(below + upper), share)
            high = table.rows(above + lower).mix(table.rows(above + upper), share)
            return low.mix(high, rise)
        by_azimuth = table.rows(lower).mix(table.rows(upper), share)
        overhead = table.rows(slice(-2, -1)).expand(len(share))
        return by_azimuth.mix(overhead, view_names.overhead_share(views.elevation_deg, settings.overhead_deg))

    def _negatives(self, views: Views) -> Negatives | None:
        """Return the front and side texts, at the view's elevation; their weight is 0 from overhead."""
        settings = self.settings
        if settings.perp_neg is None:
            return None
        if settings.view_embedding == "nearest":
            overhead = (views.elevation_deg > settings.overhead_deg).to(views.elevation_deg)
        else:
            overhead = view_names.overhead_share(views.elevation_deg, settings.overhead_deg)
        place = view_names.front_to_back(views.azimuth_deg, settings.front_deg, settings.back_deg)
        side = view_names.side_index(views.azimuth_deg, settings.directions)
        first = view_names.first_at_elevation(views.elevation_deg, settings.directions)  # the front
        index = torch.cat([first, first + side])
        return Negatives(self._table.rows(index), (1.0 - overhead) * settings.perp_neg(place))


def embed_sources(
    prior: DiffusionPrior, source_text: str, is_of_prompt: bool, texts: list[str], table: TextEmbedding
) -> TextEmbedding:
    """Embed a distillation's source text for N texts, the last of which is the empty or negative one.

    Args:
        prior: the model that embeds.
        source_text: ``Distillation.source_text``.
        is_of_prompt: ``Distillation.source_is_of_prompt``.
        texts: what may stand for its ``{}``.
        table: embeddings of the texts.

    Raises:
        ValueError: to the prior, the source text says the same as what it is compared with.
    """
    sources = prior.embed([source_text.replace("{}", text) for text in texts])
    if isinstance(prior, PlaceholderPrior):  # the texts are only listed
        return sources
    index = 0 if is_of_prompt or "{}" in source_text else len(texts) - 1
    rival, what = slice(index, index + 1), f"the text {texts[index]!r}" if texts[index] else "the empty text"
    first = slice(0, 1)
    if torch.equal(sources.rows(first).tokens, table.rows(rival).tokens):
        raise ValueError(
            f"to this prior, the text {source_text!r} of the distillation says the same as {what}: give it "
            "words that the prior knows"
        )
    return sources


def _checked(view_prompts: dict[str, str], directions: Directions) -> dict[str, str]:
    """Return the texts without leading and trailing spaces; ValueError if a direction is unknown."""
    known = view_names.keys(directions)
    for key, text in view_prompts.items():
        if key not in known:
            raise ValueError(f"view_prompts: no direction {key!r}; those of {directions}: {', '.join(known)}")
        try:
            check_prompt(text)
        except ValueError as error:
            raise ValueError(f"view_prompts.{key}: {error}") from error
    return {key: text.strip() for key, text in view_prompts.items()}
