"""How well a frontal face's eyes are seen: open or not, without a network."""

from __future__ import annotations

import cv2
import numpy as np

from datapipe.faces.align import TEMPLATE, align
from datapipe.faces.base import Face
from datapipe.record import Image

_HALF_HEIGHT, _HALF_WIDTH = 5, 9  # of the patch around an eye in the 112-pixel crop
_INNER = np.s_[30:95, 25:88]  # brows to mouth
_WIDE_OPEN = 0.04  # the product below, where people open their eyes in surprise


def eye_visibility(image: Image, face: Face) -> float:
    """0..1 for the worse eye: under 0.2 closed or squeezed, about 0.4 at rest, 1 wide open.

    An open eye shows iris beside white, strong edges that run upright; a closed one shows lashes
    and lids, weak edges that run level. The value is the root of their strength (over the face's
    contrast) times their share of all edges. It ranks the frames of one person; between people it
    is rough (deep-set and narrow eyes read lower). It does not know sunglasses, and says little
    beyond 30 degrees of yaw.
    """
    grey = cv2.cvtColor(align(image, face.points), cv2.COLOR_RGB2GRAY).astype(np.float32)
    grey = cv2.GaussianBlur(grey, (0, 0), 1.0)
    # Sobel's kernel sums to 8 times a derivative.
    across, down = (cv2.Sobel(grey, -1, *order) ** 2 / 64 for order in ((1, 0), (0, 1)))
    contrast = max(float(grey[_INNER].var()), 1.0)
    products = []
    for x, y in TEMPLATE[:2].round().astype(int):
        rows = slice(y - _HALF_HEIGHT, y + _HALF_HEIGHT + 1)
        columns = slice(x - _HALF_WIDTH, x + _HALF_WIDTH + 1)
        upright, level = float(across[rows, columns].mean()), float(down[rows, columns].mean())
        products.append(upright / contrast * upright / max(upright + level, 1e-6))
    return float(np.sqrt(min(1.0, min(products) / _WIDE_OPEN)))
