"""Pictures of people, brought to the size at which they are encoded."""

from __future__ import annotations

import cv2
import numpy as np

from datapipe.record import Image


def square(picture: Image, size: int) -> Image:
    """The middle square of a picture at `size` pixels; no border is ever invented."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = picture[top : top + side, left : left + side]
    shrinks = side > size
    resized = cv2.resize(
        middle, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    )
    return np.asarray(resized, dtype=np.uint8)
