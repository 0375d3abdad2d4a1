"""View-dependent prompts (paper 3.2, A.2), and the check of what a user typed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

import torch
from torch import Tensor

from dreamfusion_pl.diffusion.prior import DiffusionPrior
from dreamfusion_pl.types import Condition, Views

Directions = Literal[0, 4, 8]
VIEW_NAMES: dict[
    int, tuple[str, ...]
] = {  # in the order of view_index and octant_index; from above comes last
    4: ("front view", "side view", "back view", "overhead view"),
    8: (
        "front view",
        "front left view",
        "left side view",
        "back left view",
        "back view",
        "back right view",
        "right side view",
        "front right view",
        "overhead view",
    ),
}


@final
class ViewDependentPrompts:
    """Says in the prompt from where the object is seen. Every text is embedded once, here.

    Args:
        prior: the model that embeds the texts.
        prompt: what to make.
        negative_prompt: the text of the unconditional branch of classifier-free guidance.
        directions: names of azimuths that are appended to the prompt: the paper's 4 quadrants, of which both
            sides have one name; 8, which tell left from right, for a prior that knows them; 0: no names.
        overhead_deg: above this elevation a view is an overhead view.
        front_deg: of 4 names: up to this distance of azimuth from the front a view is a front view.
        back_deg: from this distance of azimuth on a view is a back view; between the two it is a side view.

    Raises:
        ValueError: the prompt is empty or no text, or the angles are not in order.
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
    ) -> None:
        if not 0.0 <= front_deg <= back_deg <= 180.0:
            raise ValueError(f"need 0 <= front_deg <= back_deg <= 180, got {front_deg} and {back_deg}")
        prompt = check_prompt(prompt)
        self.overhead_deg, self.front_deg, self.back_deg = overhead_deg, front_deg, back_deg
        self.directions = directions
        self.texts = [f"{prompt}, {name}" for name in VIEW_NAMES[directions]] if directions else [prompt]
        self._table = prior.embed([*self.texts, negative_prompt])  # K + 1 texts

    def __call__(self, views: Views) -> Condition:
        """Return the embeddings that belong to B views, on the views' device."""
        self._table = self._table.to(views.azimuth_deg.device)
        if self.directions == 0:
            index = torch.zeros_like(views.azimuth_deg, dtype=torch.long)
        elif self.directions == 8:
            index = octant_index(views.elevation_deg, views.azimuth_deg, self.overhead_deg)
        else:
            index = view_index(
                views.elevation_deg, views.azimuth_deg, self.overhead_deg, self.front_deg, self.back_deg
            )
        return Condition(text=self._table.rows(index), null=self._table.rows(slice(-1, None)))


def view_index(
    elevation_deg: Tensor, azimuth_deg: Tensor, overhead_deg: float, front_deg: float, back_deg: float
) -> Tensor:
    """Name each view by its quadrant (paper 3.2, A.2): index into ``VIEW_NAMES[4]``.

    Args:
        elevation_deg: [B].
        azimuth_deg: [B], any multiple of a turn; 0 looks at the front.
        overhead_deg: above this elevation a view is an overhead view.
        front_deg: up to this distance of azimuth from the front it is a front view.
        back_deg: from this distance on it is a back view.

    Returns:
        int64 [B].
    """
    from_front = ((azimuth_deg + 180.0) % 360.0 - 180.0).abs()
    by_azimuth = (from_front > front_deg).long() + (from_front >= back_deg).long()
    return torch.where(elevation_deg > overhead_deg, torch.full_like(by_azimuth, 3), by_azimuth)


def octant_index(elevation_deg: Tensor, azimuth_deg: Tensor, overhead_deg: float) -> Tensor:
    """Name each view by the nearest of eight azimuths: index into ``VIEW_NAMES[8]``.

    Args:
        elevation_deg: [B].
        azimuth_deg: [B], any multiple of a turn; 0 looks at the front, 90 at the object's own left.
        overhead_deg: above this elevation a view is an overhead view.

    Returns:
        int64 [B].
    """
    octant = torch.div(azimuth_deg + 22.5, 45.0, rounding_mode="floor").long() % 8
    return torch.where(elevation_deg > overhead_deg, torch.full_like(octant, 8), octant)


def check_prompt(prompt: object) -> str:
    """Return the prompt without outer spaces.

    Raises:
        ValueError: it is not a text, not encoded in UTF-8, empty, or has no letter in it.
    """
    cure = 'give a short description, for example --prompt "a red chair"'
    if not isinstance(prompt, str):
        raise ValueError(f"the prompt must be a text, got {prompt!r} ({type(prompt).__name__}): {cure}")
    if not prompt.strip():
        raise ValueError(f"the prompt is empty: {cure}")
    if any("\ud800" <= letter <= "\udfff" for letter in prompt):  # bytes of a terminal in another encoding
        raise ValueError(f"the prompt {prompt!r} is not UTF-8: set the terminal to UTF-8, or {cure}")
    if not any(letter.isalpha() for letter in prompt):
        raise ValueError(f"the prompt {prompt!r} has no word in it: {cure}")
    return prompt.strip()


def unknown_words_warning(words: Sequence[str], objects: Sequence[str], colors: Sequence[str]) -> str:
    """Return the message for a prompt with words that the embedded prior does not know.

    Args:
        words: the unknown words, at least one.
        objects: names of the objects that the prior knows.
        colors: names of the colours that it knows.
    """
    unknown = ", ".join(repr(word) for word in words)
    return (
        f"The embedded prior does not know {unknown} and will ignore it.\n"
        f"It knows these objects: {', '.join(objects)};\n"
        f"and these colours: {', '.join(colors)}.\n"
        "For any other prompt use a model from the hub, on a GPU: "
        "--model.prior.model DeepFloyd/IF-I-M-v1.0"
    )
