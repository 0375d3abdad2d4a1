"""Records that travel through the package, the conventions they share, and the shape legend.

World axes: right-handed, +z up, +x is the object's front. Azimuth 0 looks at the front from +x and grows
counter-clockwise seen from above; elevation is measured from the xy-plane. Degrees in configuration and in
names ending in ``_deg``, radians inside functions. Lengths are world units: objects fit in a ball of radius
0.5.

Camera axes (OpenGL): +x right, +y up, the camera looks along -z. ``rotation`` maps camera to world
directions.
Images: float in [0, 1], ``[B, H, W, 3]``, row 0 on top. A prior's own layout and range stay inside the prior.

Shape letters: B views, H W image rows and columns, R rays, S samples on a ray, P points, C channels,
T text tokens, D embedding width, K known view directions of a prompt.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Views(NamedTuple):
    """Everything random about B pictures: cameras, lights, shading modes, backgrounds, sample offsets."""

    origin: Tensor  # [B, 3] camera position
    rotation: Tensor  # [B, 3, 3] camera-to-world rotation, columns are the camera's right, up and back
    focal: Tensor  # [B] focal length in image widths
    elevation_deg: Tensor  # [B] elevation before perturbation, in [-90, 90]
    azimuth_deg: Tensor  # [B] azimuth before perturbation, in [0, 360)
    light: Tensor  # [B, 3] position of the point light
    ambient: Tensor  # [B] ambient intensity l_a
    diffuse: Tensor  # [B] diffuse intensity l_rho
    textureless: Tensor  # [B] bool, albedo replaced by white
    background: Tensor  # [B, 3] solid background colour
    jitter: Tensor  # [B, H, W] in [0, 1), where in its stratum every sample of a ray lies


class Rays(NamedTuple):
    """Rays through pixel centres."""

    origins: Tensor  # [..., 3]
    directions: Tensor  # [..., 3] unit length


class Rendering(NamedTuple):
    """What a renderer returns for B views."""

    rgb: Tensor  # [B, H, W, 3] shaded colour over the background, in [0, 1]
    albedo: Tensor  # [B, H, W, 3] albedo accumulated over the background
    opacity: Tensor  # [B, H, W] sum of the compositing weights
    depth: Tensor  # [B, H, W] expected distance along the ray, far bound where transparent
    normal: Tensor  # [B, H, W, 3] accumulated normal, zero where transparent
    weights: Tensor  # [B, H, W, S] compositing weights w_i
    facing: Tensor  # [B, H, W, S] or [B, H, W, 1], max(0, n . v)^2 of the orientation loss


class Condition(NamedTuple):
    """Text condition of B views: one embedding each, and the unconditional one."""

    text: Tensor  # [B, T, D]
    null: Tensor  # [1, T, D]
