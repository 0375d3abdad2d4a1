"""Named colours, accent colours of object parts, and surface patterns.

Colours are display values (sRGB) in [0, 1]: what a pixel of an unlit picture holds. Light is multiplied with
them as they are, in pictures of the world and in renders of a field, and a texture is written without
conversion. A linear light model would convert before and after.
"""

from __future__ import annotations

import torch
from torch import Tensor

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.08, 0.08),
    "orange": (1.0, 0.5, 0.03),
    "yellow": (0.98, 0.88, 0.1),
    "green": (0.1, 0.6, 0.13),
    "cyan": (0.1, 0.82, 0.85),
    "blue": (0.08, 0.2, 0.88),
    "purple": (0.5, 0.13, 0.72),
    "pink": (1.0, 0.55, 0.75),
    "brown": (0.42, 0.22, 0.09),
    "white": (0.96, 0.96, 0.96),
    "gray": (0.5, 0.5, 0.5),
    "black": (0.07, 0.07, 0.07),
}

# Fixed colours of parts; MAIN stands for the colour that the caption names.
MAIN = "main"
ACCENTS: dict[str, tuple[float, float, float]] = {
    "dark": (0.12, 0.12, 0.13),
    "light": (0.92, 0.92, 0.9),
    "wood": (0.5, 0.31, 0.15),
    "leaf": (0.14, 0.5, 0.12),
    "glass": (0.55, 0.75, 0.9),
    "metal": (0.62, 0.64, 0.66),
    "beak": (1.0, 0.55, 0.05),
    "cream": (0.95, 0.86, 0.65),
    "gold": (0.95, 0.75, 0.2),
    "crust": (0.78, 0.5, 0.22),
}
ROLES = (MAIN, *ACCENTS)
PATTERNS = ("plain", "striped", "checkered", "spotted")


def palette(color: str) -> Tensor:
    """Return the albedo of every colour role for an object of the named colour, [len(ROLES), 3]."""
    return torch.tensor([COLORS[color], *ACCENTS.values()])


def contrast(color: Tensor) -> Tensor:
    """Return the second colour of a pattern: white, or black if the main colour [..., 3] is light."""
    light = color.amin(dim=-1, keepdim=True) > 0.7
    return torch.where(light, torch.full_like(color, 0.07), torch.full_like(color, 0.96))


def pattern_mask(points: Tensor, pattern: str) -> Tensor:
    """Return the mask of a pattern's second colour: points [..., 3], object radius 0.5 -> bool [...]."""
    if pattern == "plain":
        return torch.zeros_like(points[..., 0], dtype=torch.bool)
    if pattern == "striped":
        return torch.remainder(points[..., 2] * 4.0 + 0.25, 1.0) < 0.5
    if pattern == "checkered":
        cells = torch.floor(points * 4.5 + 0.5).sum(dim=-1)
        return torch.remainder(cells, 2.0) < 0.5
    if pattern == "spotted":
        cell = torch.remainder(points * 3.6 + 0.5, 1.0) - 0.5
        return cell.norm(dim=-1) < 0.36
    raise ValueError(f"unknown pattern {pattern!r}; known: {', '.join(PATTERNS)}")
