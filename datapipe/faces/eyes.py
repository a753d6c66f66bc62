"""How well a frontal face's eyes are seen: open or not, without a network."""

from __future__ import annotations

import cv2
import numpy as np

from datapipe.faces.align import TEMPLATE, align
from datapipe.faces.base import Face
from datapipe.record import Image

_HALF_HEIGHT, _HALF_WIDTH = 7, 12  # of the patch around an eye in the 112-pixel crop
# Share of horizontal gradients: winking and closed eyes .07-.12, wide open ones .45-.6.
_CLOSED, _OPEN = 0.1, 0.4


def eye_visibility(image: Image, face: Face) -> float:
    """0..1 for the worse eye: 0 closed, squeezed or covered by skin, about 0.3-0.8 open, 1 wide.

    An open eye shows iris beside white, edges that run upright; a closed one shows lashes and
    lids, edges that run level. So this is the share of horizontal gradient energy around the eye.
    It ranks frames of one person well, compares people roughly (narrow eyes read lower), cannot
    see through sunglasses, and means little beyond 30 degrees of yaw.
    """
    grey = cv2.cvtColor(align(image, face.points), cv2.COLOR_RGB2GRAY).astype(np.float32)
    grey = cv2.GaussianBlur(grey, (0, 0), 1.0)
    across, down = cv2.Sobel(grey, -1, 1, 0) ** 2, cv2.Sobel(grey, -1, 0, 1) ** 2
    shares = []
    for x, y in TEMPLATE[:2].round().astype(int):
        patch = np.s_[
            y - _HALF_HEIGHT : y + _HALF_HEIGHT + 1, x - _HALF_WIDTH : x + _HALF_WIDTH + 1
        ]
        level, upright = float(down[patch].sum()), float(across[patch].sum())
        shares.append(upright / max(upright + level, 1e-6))
    return float(np.clip((min(shares) - _CLOSED) / (_OPEN - _CLOSED), 0, 1))
