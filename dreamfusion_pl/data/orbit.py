"""Deterministic views from a ring around the object, for previews and evaluation."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamfusion_pl.data import cameras
from dreamfusion_pl.types import Views

# Behind the object wherever it is shown or judged: half of white's light, and about as far from the white of
# objects (.96) as from their gray (.5), so that white, gray and black ones are all visible.
GRAY = (0.72, 0.72, 0.72)


def orbit(
    azimuths_deg: list[float] | Tensor,
    elevation_deg: float,
    distance: float,
    focal: float,
    height: int,
    width: int,
    background: tuple[float, float, float] = GRAY,
) -> Views:
    """Return unshaded views from a ring around the object.

    Args:
        azimuths_deg: B azimuths in degrees.
        elevation_deg: elevation of the ring in [-90, 90].
        distance: distance of the camera from the origin in world units, > 0.
        focal: focal length in image widths, > 0.
        height: rows H.
        width: columns W.
        background: solid background colour in [0, 1]; the gray of all pictures that are shown or judged.

    Returns:
        B views, with every sample at the centre of its stratum.
    """
    azimuth = torch.as_tensor(azimuths_deg, dtype=torch.float32) % 360.0
    count = azimuth.shape[0]
    elevation = torch.full((count,), float(elevation_deg))
    origin = cameras.positions(elevation, azimuth, torch.full((count,), float(distance)))
    up = torch.tensor([0.0, 0.0, 1.0]).expand(count, 3)
    return Views(
        origin=origin,
        rotation=cameras.look_at(origin, torch.zeros(count, 3), up),
        focal=torch.full((count,), float(focal)),
        elevation_deg=elevation,
        azimuth_deg=azimuth,
        light=origin,
        ambient=torch.ones(count),
        diffuse=torch.zeros(count),
        textureless=torch.zeros(count, dtype=torch.bool),
        background=torch.tensor(background).expand(count, 3),
        solid=torch.zeros(count, dtype=torch.bool),
        jitter=torch.tensor(0.5).expand(count, height, width),
    )


def ring(count: int) -> Tensor:
    """Return evenly spaced azimuths in degrees, [count], counter-clockwise from the front."""
    return torch.arange(count) * (360.0 / count)
