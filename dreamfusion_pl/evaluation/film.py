"""Renders frames of a finished object in several channels, with opacity."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.rendering.premultiplied import render_premultiplied
from dreamfusion_pl.types import Rendering, Views

LIGHTS = {  # ambient and diffuse intensity of a light at the camera
    "color": (0.35, 0.65),
    "albedo": (1.0, 0.0),
    "normal": (1.0, 0.0),
    "opacity": (1.0, 0.0),
    "textureless": (0.1, 0.9),
}
VISIBLE = 0.05  # at least one pixel of a film must have this opacity


@final
class Film:
    """A sequence of rendered frames [H, W, 3 or 4] in [0, 1] on the CPU, each rendered when it is accessed.

    Accessing a frame raises ValueError if it is not finite. When all frames have been accessed and nothing is
    visible in any of them, the last access raises ValueError.

    Args:
        model: the object.
        channel: "color", lit from the camera; "albedo"; "normal", as 0.5 n + 0.5 in world axes; "opacity",
            white; "textureless", white and lit from the camera.
        views: B cameras; their lighting and backgrounds are ignored.
        background: colour in [0, 1] behind the object; None gives RGBA frames with straight (not
            premultiplied) colour.

    Raises:
        ValueError: the channel is unknown.
    """

    def __init__(
        self,
        model: DreamFusion,
        channel: str,
        views: Views,
        background: tuple[float, float, float] | None = None,
    ) -> None:
        if channel not in LIGHTS:
            raise ValueError(f"the channel is one of {', '.join(LIGHTS)}; got {channel!r}")
        ambient, self._diffuse = LIGHTS[channel]
        self._model, self._channel, self._background = model, channel, background
        self._views = views._replace(
            light=views.origin,
            ambient=torch.full_like(views.ambient, ambient),
            diffuse=torch.full_like(views.diffuse, self._diffuse),
            textureless=torch.full_like(views.textureless, channel == "textureless"),
        )
        self._left, self._most = (
            set(range(len(views.origin))),
            0.0,
        )  # frames not accessed yet; highest opacity so far

    def __len__(self) -> int:
        """The number of frames."""
        return len(self._views.origin)

    def __getitem__(self, index: int) -> Tensor:
        """Render a frame."""
        index = range(len(self))[index]
        one = Views(*(field[index : index + 1] for field in self._views))
        model, needs_normals = self._model, self._diffuse > 0.0 or self._channel == "normal"
        rendering = render_premultiplied(model.scene, model.renderer, one, model.progress, needs_normals)
        picture = _picture(rendering, self._channel)[0]
        self._check(index, picture)
        return picture if self._background is None else on_color(picture, self._background)

    def _check(self, index: int, picture: Tensor) -> None:
        if not bool(picture.isfinite().all()):
            raise ValueError(
                "the pictures are not finite (NaN or infinity): training diverged; lower the learning rate "
                "or start again from an earlier checkpoint"
            )
        self._left.discard(index)
        self._most = max(self._most, float(picture[..., 3].max()))
        if not self._left and self._most < VISIBLE:
            raise ValueError(
                f"there is nothing to see: the opacity is at most {self._most:.3f}. The object vanished in "
                "training, or no camera sees it"
            )


def on_color(frames: Tensor, background: tuple[float, float, float]) -> Tensor:
    """Composite frames [..., 4] over a colour in [0, 1]: [..., 3]."""
    return torch.lerp(torch.tensor(background).expand_as(frames[..., :3]), frames[..., :3], frames[..., 3:])


def _picture(rendering: Rendering, channel: str) -> Tensor:
    opacity = rendering.opacity[..., None]
    if channel == "opacity":
        color = torch.ones_like(rendering.albedo)
    elif channel == "normal":
        color = 0.5 * rendering.normal / opacity.clamp_min(1e-3) + 0.5
    else:
        seen = rendering.albedo if channel == "albedo" else rendering.rgb
        color = seen / opacity.clamp_min(1e-3)
    return torch.cat([color, opacity], dim=-1).clamp(0.0, 1.0)
