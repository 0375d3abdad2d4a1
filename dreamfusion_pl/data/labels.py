"""Words in pictures, in the font that comes with Pillow."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

Color = tuple[float, float, float]
BLACK, WHITE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
FONT_SIZE, LINE, MARGIN = 12, 18, 4  # pixels


def label(text: str, width: int, behind: Color = WHITE, ink: Color = BLACK, height: int = LINE) -> Tensor:
    """Draw a line of text from the left, in the middle of the height, [height, width, 3] in [0, 1].

    Args:
        text: what is said; what does not fit into the width is cut off.
        width: in pixels; ``label_width`` is enough.
        behind: colour of the background.
        ink: colour of the text.
        height: in pixels.
    """
    from PIL import Image, ImageDraw

    background, foreground = (tuple(round(255 * part) for part in color) for color in (behind, ink))
    picture = Image.new("RGB", (width, height), background)
    ImageDraw.Draw(picture).text((MARGIN, height // 2), text, fill=foreground, font=_font(), anchor="lm")
    return torch.from_numpy(np.array(picture)) / 255.0


def label_width(text: str) -> int:
    """Width in pixels that a line of text and its margins need."""
    return 2 * MARGIN + math.ceil(_font().getlength(text))


def _font() -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(FONT_SIZE)
