"""Data types shared by the whole package, their conventions, and the shape legend.

World axes: right-handed, +z up, +x is the object's front. Azimuth 0 looks at the front from +x and grows
counter-clockwise seen from above; elevation is measured from the xy-plane. Degrees in configuration and in
names ending in ``_deg``, radians inside functions. Lengths are world units: objects fit in a ball of radius
0.5.

Camera axes (OpenGL): +x right, +y up, the camera looks along -z. ``rotation`` maps camera to world
directions.
Images: float in [0, 1], ``[B, H, W, 3]``, row 0 on top. A prior's own layout and value range are internal.

Shape letters: B views, H W image rows and columns, R rays, S samples on a ray, P points, C channels,
L latent channels, T text tokens, D embedding width, N texts or rows, K view directions of a prompt,
M negative prompts of a view.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Views(NamedTuple):
    """Everything random about B images: cameras, lights, shading modes, backgrounds, sample offsets."""

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
    solid: Tensor  # [B] bool, the solid colour is used in place of a learned background
    jitter: Tensor  # [B, H, W] in [0, 1), offset of all samples of a ray within their strata


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
    latent: Tensor  # [B, H, W, L] accumulated latents over the background's; L = 0 if none are rendered


class TextEmbedding(NamedTuple):
    """Embeddings of N texts. Parts that a model does not use are None."""

    tokens: Tensor  # [N, T, D] one vector per token
    pooled: Tensor | None = None  # [N, P] one vector per text
    mask: Tensor | None = None  # [N, T] attention mask: 1 token, 0 padding; None: no padding

    @property
    def num_texts(self) -> int:
        """N."""
        return len(self.tokens)

    def each(self, function: Callable[[Tensor], Tensor]) -> TextEmbedding:
        """Apply a function to every part that is not None."""
        rest = (None if part is None else function(part) for part in self[1:])
        return TextEmbedding(function(self.tokens), *rest)

    def rows(self, index: Tensor | slice) -> TextEmbedding:
        """Select texts by index, int64 [M], or by slice."""
        return self.each(lambda part: part[index])

    def expand(self, count: int) -> TextEmbedding:
        """Repeat a single text (N = 1) ``count`` times, as a view without copying."""
        return self.each(lambda part: part.expand(count, *part.shape[1:]))

    def to(self, target: torch.device | torch.dtype) -> TextEmbedding:
        """Move to a device, or convert to a dtype."""
        return self.each(lambda part: part.to(target))

    def join(self, other: TextEmbedding) -> TextEmbedding:
        """Append the texts of another embedding of the same model."""
        pairs = zip(self[1:], other[1:], strict=True)
        rest = (None if a is None or b is None else torch.cat([a, b]) for a, b in pairs)
        return TextEmbedding(torch.cat([self.tokens, other.tokens]), *rest)

    def mix(self, other: TextEmbedding, share: Tensor) -> TextEmbedding:
        """Interpolate linearly between N pairs of texts.

        The mask is the union of the masks of the texts whose weight is not zero.

        Args:
            other: N texts of the same model.
            share: weight of ``other``, [N] in [0, 1]. At 0 and 1 the result equals one of the two exactly.
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


CAMERA = 12  # numbers of a camera as a condition: its position, and its rotation by rows


class Negatives(NamedTuple):
    """M negative prompts for each of B views, for Perp-Neg."""

    text: TextEmbedding  # of M B texts, ordered [M, B]: the first negative of all views comes first
    weight: Tensor  # [M, B], >= 0: weight of the perpendicular component that is subtracted


class Condition(NamedTuple):
    """Text condition of B views: one embedding per view, and the unconditional one."""

    text: TextEmbedding  # of B texts
    null: TextEmbedding  # of one text, the empty or negative prompt
    negatives: Negatives | None = None
    source: TextEmbedding | None = None  # of B texts that a distillation asks for: Distillation.source_text
    camera: Tensor | None = None  # [B, CAMERA] of each view

    def repeat(self, count: int) -> Condition:
        """Return the condition of ``count`` copies of the B views, one copy after the other."""
        if count == 1:
            return self
        rows = torch.arange(self.text.num_texts, device=self.text.tokens.device).repeat(count)
        negatives = self.negatives
        if negatives is not None:
            index = torch.arange(negatives.weight.numel(), device=rows.device).view(negatives.weight.shape)
            wide = index.repeat(1, count)
            negatives = Negatives(negatives.text.rows(wide.flatten()), negatives.weight.repeat(1, count))
        source = None if self.source is None else self.source.rows(rows)
        camera = None if self.camera is None else self.camera[rows]
        return Condition(self.text.rows(rows), self.null, negatives, source, camera)


class PictureBatch(NamedTuple):
    """Images with their captions."""

    pictures: Tensor  # [B, H, W, 3] in [0, 1]
    captions: list[str]
