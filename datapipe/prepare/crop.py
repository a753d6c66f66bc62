"""The portrait's frame: one square around a face, with hair and shoulders.

References are cut by this rule, and views are rendered to it, so that both show a head alike.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2

from datapipe.record import Image

FACE_SHARE = 0.4
"""The face box's mean side over the square's side."""
FACE_CENTRE = 0.45
"""The face box's centre, from the square's top, as a share of its side; level, it is the middle."""
LEAST_MARGIN = 1.5
"""The square's least side, in mean sides of the face box, when it gives way to neighbours."""

Box = tuple[float, float, float, float]


def portrait_square(
    face: Box, width: int, height: int, neighbours: Iterable[Box] = ()
) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the square to cut around a face box, in pixels.

    Where the frame does not hold the square, it is shifted inside; where the frame is too small
    for it, it shrinks to the frame's short side: no border is invented. Before that it shrinks,
    down to `LEAST_MARGIN`, until it leaves out the middle of every neighbour's face.
    """
    left, top, right, bottom = face
    size = ((right - left) + (bottom - top)) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    side = size / FACE_SHARE
    for other in neighbours:
        side = min(side, max(_side_without(other, x, y), size * LEAST_MARGIN))
    pixels = max(1, min(round(side), width, height))
    start_x = _inside(x - pixels / 2, pixels, width)
    start_y = _inside(y - pixels * FACE_CENTRE, pixels, height)
    return start_x, start_y, start_x + pixels, start_y + pixels


def cut(image: Image, square: tuple[int, int, int, int], side: int) -> Image:
    """The square's content, at most `side` pixels wide: scaled down where larger, never up."""
    left, top, right, bottom = square
    piece = image[top:bottom, left:right]
    if right - left <= side:
        return piece.copy()
    scaled: Image = cv2.resize(piece, (side, side), interpolation=cv2.INTER_AREA)
    return scaled


def _side_without(other: Box, x: float, y: float) -> float:
    """Side of the largest square around a face's middle without the middle of another face."""
    across, down = (other[0] + other[2]) / 2 - x, (other[1] + other[3]) / 2 - y
    above = -down / FACE_CENTRE if down < 0 else down / (1 - FACE_CENTRE)
    return max(2 * abs(across), above)


def _inside(start: float, length: int, limit: int) -> int:
    return max(0, min(round(start), limit - length))
