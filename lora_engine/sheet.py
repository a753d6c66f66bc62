"""Contact sheets: pictures in rows and columns, with a line of text under each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from datapipe.record import Image

_GAP = 4


@dataclass(frozen=True, slots=True)
class Cell:
    """One picture of a sheet."""

    image: Image
    text: str = ""


def contact_sheet(rows: Sequence[Sequence[Cell]], side: int = 192) -> Image:
    """The rows as one picture on white; every cell is `side` pixels wide."""
    size = max(11, side // 14)
    font = ImageFont.load_default(size)
    height = side + size + 3 * _GAP
    columns = max(map(len, rows))
    canvas = Pillow.new("RGB", (columns * (side + _GAP) + _GAP, len(rows) * height), "white")
    draw = ImageDraw.Draw(canvas)
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            left, top = _GAP + x * (side + _GAP), _GAP + y * height
            picture = Pillow.fromarray(cell.image).resize((side, side), Pillow.Resampling.LANCZOS)
            canvas.paste(picture, (left, top))
            middle = left + side // 2, top + side + _GAP
            draw.text(middle, cell.text, font=font, fill="black", anchor="ma")
    return np.asarray(canvas)
