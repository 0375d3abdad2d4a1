"""Records that travel through the package, the conventions they share, and the shape legend.

World axes: right-handed, +z up, +x is the object's front. Azimuth 0 looks at the front from +x and grows
counter-clockwise seen from above; elevation is measured from the xy-plane. Degrees in configuration and in
names ending in ``_deg``, radians inside functions. Lengths are world units: objects fit in a ball of radius
0.5.

Camera axes (OpenGL): +x right, +y up, the camera looks along -z. ``rotation`` maps camera to world
directions.
Images: float in [0, 1], ``[B, H, W, 3]``, row 0 on top. A prior's own layout and range stay inside the prior.

Shape letters: B views, H W image rows and columns, R rays, S samples on a ray, P points, C channels,
L channels of latents, T text tokens, D embedding width, N texts or rows, K known view directions of a
prompt, M negative texts of a view.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
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
    latent: Tensor  # [B, H, W, L] accumulated latents over those of the background; mostly L = 0


class TextEmbedding(NamedTuple):
    """What text encoders make of N texts. A model that has no use for a part leaves it out."""

    tokens: Tensor  # [N, T, D] one vector for every token
    pooled: Tensor | None = None  # [N, P] one vector for the whole text
    mask: Tensor | None = None  # [N, T] 1 where a token is read, 0 where it is padding; None: all are read

    @property
    def num_texts(self) -> int:
        """N."""
        return len(self.tokens)

    def each(self, function: Callable[[Tensor], Tensor]) -> TextEmbedding:
        """Apply a function to every part that there is."""
        rest = (None if part is None else function(part) for part in self[1:])
        return TextEmbedding(function(self.tokens), *rest)

    def rows(self, index: Tensor | slice) -> TextEmbedding:
        """Take texts by their index, int64 [M], or by a slice."""
        return self.each(lambda part: part[index])

    def expand(self, count: int) -> TextEmbedding:
        """Repeat the one text that this is, N = 1, ``count`` times, without a copy."""
        return self.each(lambda part: part.expand(count, *part.shape[1:]))

    def to(self, target: torch.device | torch.dtype) -> TextEmbedding:
        """Move to a device, or take a precision."""
        return self.each(lambda part: part.to(target))

    def join(self, other: TextEmbedding) -> TextEmbedding:
        """Append the texts of another embedding of the same model."""
        pairs = zip(self[1:], other[1:], strict=True)
        rest = (None if a is None or b is None else torch.cat([a, b]) for a, b in pairs)
        return TextEmbedding(torch.cat([self.tokens, other.tokens]), *rest)

    def mix(self, other: TextEmbedding, share: Tensor) -> TextEmbedding:
        """Convex combination of N pairs of texts; a token is read where a text that takes part reads it.

        Args:
            other: N texts of the same model.
            share: of the other in the mixture, [N] in [0, 1]. At 0 and 1 it is one of the two, exactly.
        """

        def blend(ours: Tensor, theirs: Tensor) -> Tensor:
            wide = torch.promote_types(ours.dtype, torch.float32)
            weight = share.to(wide).view(-1, *[1] * (ours.ndim - 1))
            return torch.lerp(ours.to(wide), theirs.to(wide), weight).to(ours.dtype)

        pooled = mask = None
        if self.pooled is not None and other.pooled is not None:
            pooled = blend(self.pooled, other.pooled)
        if self.mask is not None and other.mask is not None:
            mask = torch.maximum(self.mask * (share < 1.0)[:, None], other.mask * (share > 0.0)[:, None])
        return TextEmbedding(blend(self.tokens, other.tokens), pooled, mask)


class Negatives(NamedTuple):
    """M texts for each of B views that its picture is to be pushed away from."""

    text: TextEmbedding  # of M B texts, the first of every view before the second of any
    weight: Tensor  # [M, B], >= 0: how much of a negative's perpendicular part is subtracted


class Condition(NamedTuple):
    """Text condition of B views: one embedding each, and the unconditional one."""

    text: TextEmbedding  # of B texts
    null: TextEmbedding  # of one text
    negatives: Negatives | None = None


class PictureBatch(NamedTuple):
    """Pictures with their captions."""

    pictures: Tensor  # [B, H, W, 3] in [0, 1]
    captions: list[str]
