"""Pictures of a finished object in several channels, with nothing behind it."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamfusion_pl.algorithm import DreamFusion
from dreamfusion_pl.evaluation.runs import render_alone
from dreamfusion_pl.types import Rendering, Views

LIGHTS = {  # ambient and diffuse intensity of the light at the camera
    "color": (0.35, 0.65),
    "albedo": (1.0, 0.0),
    "normal": (1.0, 0.0),
    "opacity": (1.0, 0.0),
    "textureless": (0.1, 0.9),
}
VISIBLE = 0.05  # opacity that one pixel of a film must have for anything to be seen


def film(model: DreamFusion, channel: str, views: Views) -> Tensor:
    """Render views of an object.

    Args:
        model: the object.
        channel: "color", lit from the camera; "albedo"; "normal", as 0.5 n + 0.5 in world axes; "opacity",
            white; "textureless", white and lit from the camera.
        views: B cameras; their lighting and backgrounds do not matter.

    Returns:
        [B, H, W, 4] in [0, 1] on the CPU: colour, not multiplied by opacity, and opacity.

    Raises:
        ValueError: the channel is unknown, the pictures are not finite, or there is nothing in any of them.
    """
    if channel not in LIGHTS:
        raise ValueError(f"the channel is one of {', '.join(LIGHTS)}; got {channel!r}")
    ambient, diffuse = LIGHTS[channel]
    lit = views._replace(
        light=views.origin,
        ambient=torch.full_like(views.ambient, ambient),
        diffuse=torch.full_like(views.diffuse, diffuse),
        textureless=torch.full_like(views.textureless, channel == "textureless"),
    )
    frames = []
    for i in range(len(views.origin)):  # one at a time: a rendering holds every sample
        one = Views(*(field[i : i + 1] for field in lit))
        frames.append(_picture(render_alone(model, one, diffuse > 0.0 or channel == "normal"), channel))
    pictures = torch.cat(frames)
    if not bool(pictures.isfinite().all()):
        raise ValueError(
            "the pictures are not finite (NaN or infinity): training diverged; lower the learning rate or "
            "start again from an earlier checkpoint"
        )
    most = float(pictures[..., 3].max())
    if most < VISIBLE:
        raise ValueError(
            f"there is nothing to see: the opacity is at most {most:.3f}. The object vanished in "
            "training, or no camera sees it"
        )
    return pictures


def on_color(frames: Tensor, background: tuple[float, float, float]) -> Tensor:
    """Put frames [B, H, W, 4] over a colour in [0, 1]: [B, H, W, 3]."""
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
