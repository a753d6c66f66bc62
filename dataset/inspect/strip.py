"""Where in its video an identity is seen, and how its head turns, as a strip along the time."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from datapipe.prepare.windows import TRACK
from dataset.inspect.sheet import GREEN, GREY, INK, MARGIN, PAPER, RED, font
from dataset.judged import Row
from filters.judge import Verdict

HEIGHT, BAND = 112, 72
"""Pixels of a strip, and of the band in it that stands for yaws from 90 degrees down to -90."""
TILE = 128
"""Pixels of a picture's side in a row of them."""


def draw_strip(
    title: str,
    windows: Sequence[tuple[Row, Verdict]],
    track: npt.NDArray[np.float32],
    width: int,
) -> Image.Image:
    """Windows in green, rejected ones in red with the reason, over them the measured yaw.

    `track` is as `datapipe.prepare.windows.read_track` gives it. The strip ends with the last
    moment in which the person is seen.
    """
    strip = Image.new("RGB", (width, HEIGHT), PAPER)
    draw = ImageDraw.Draw(strip)
    until = max([0.1, *(row["end"] for row, _ in windows), *track[:, 0].tolist()])
    across = (width - 2 * MARGIN) / until
    top, middle = 22, 22 + BAND / 2
    draw.text((MARGIN, 2), title, INK, font(14))
    draw.rectangle((MARGIN, top, width - MARGIN, top + BAND), (236, 236, 234))
    for row, verdict in windows:
        left, right = (MARGIN + row[name] * across for name in ("start", "end"))
        colour = GREEN if verdict.passed else RED
        pale = tuple(255 - (255 - part) // 3 for part in colour)
        draw.rectangle((left, top, max(left + 1, right - 1), top + BAND), pale, colour)
        if verdict.reason:
            draw.text((left + 3, top + 2), verdict.reason, colour, font(12))
    draw.line((MARGIN, middle, width - MARGIN, middle), GREY)
    yaw = TRACK.index("yaw")
    for look in track[~np.isnan(track[:, yaw])]:
        x, y = MARGIN + float(look[0]) * across, middle - float(look[yaw]) / 90 * BAND / 2
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), INK)
    for place, text, anchor in ((MARGIN, "0 s", "la"), (width - MARGIN, f"{until:.1f} s", "ra")):
        draw.text((place, top + BAND + 2), text, GREY, font(12), anchor=anchor)
    return strip


def draw_tiles(title: str, tiles: Sequence[tuple[str, bytes]], width: int) -> Image.Image:
    """JPEG pictures in a row, each with a line of text below."""
    strip = Image.new("RGB", (width, TILE + 48), PAPER)
    draw = ImageDraw.Draw(strip)
    draw.text((MARGIN, 2), title, INK, font(14))
    for number, (text, picture) in enumerate(tiles):
        left = MARGIN + number * (TILE + 12)
        with Image.open(io.BytesIO(picture)) as opened:
            small = opened.convert("RGB").resize((TILE, TILE), Image.Resampling.LANCZOS)
        strip.paste(small, (left, 24))
        draw.text((left, 26 + TILE), text, GREY, font(12))
    return strip
