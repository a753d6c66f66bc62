"""Cutting faces out of pictures: the recognisers' 112-pixel crop, and a crop by box."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from datapipe.faces.base import Floats
from datapipe.record import Image

Affine = NDArray[np.float64]

TEMPLATE = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ],
    np.float32,
)
"""Where eyes, nose tip and mouth corners go in a 112 x 112 crop (ArcFace's, which SFace shares)."""


def align(image: Image, points: Floats, size: int = 112) -> Image:
    """(size, size, 3): the face, upright, by the least-squares similarity of its five points."""
    return warp(image, similarity(points, TEMPLATE * (size / 112)), size)


def similarity(source: Floats, target: Floats) -> Affine:
    """(2, 3): the rotation, scale and shift that take points to points with the least error."""
    # As complex numbers, a similarity is z -> a z + b, and the fit is a one-line regression.
    z, w = (np.asarray(p, np.float64) @ np.array([1, 1j]) for p in (source, target))
    centred = z - z.mean()
    a = np.vdot(centred, w) / np.vdot(centred, centred).real
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def box_window(
    box: tuple[float, float, float, float], size: int, grow: float, drop: float
) -> Affine:
    """(2, 3): the map that takes a square around a box to size x size.

    The square's side is `grow` times the box's mean side, and its centre lies `drop` of that mean
    side below the box's.
    """
    left, top, right, bottom = box
    mean = ((right - left) + (bottom - top)) / 2
    scale = size / (grow * mean)
    x = (left + right) / 2 - grow * mean / 2
    y = (top + bottom) / 2 + drop * mean - grow * mean / 2
    # Half a pixel: the box is in continuous coordinates, the warp counts pixel centres. So the crop
    # of a mirrored picture is exactly the mirrored crop.
    return np.array([[scale, 0, (0.5 - x) * scale - 0.5], [0, scale, (0.5 - y) * scale - 0.5]])


def warp(image: Image, matrix: Affine, size: int) -> Image:
    """(size, size, 3) under an affine map of pixel centres; black outside the picture."""
    shrink = int(1 / np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if shrink >= 2:  # bilinear sampling would skip pixels: average whole blocks first
        image, matrix = _averaged(image, matrix, size, shrink)
    crop: Image = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR)
    return crop


def _averaged(image: Image, matrix: Affine, size: int, shrink: int) -> tuple[Image, Affine]:
    """The part of the picture that the crop sees, `shrink` times smaller, and its own map."""
    corners = np.array([[0, 0, 1], [size, 0, 1], [0, size, 1], [size, size, 1]])
    seen = corners @ cv2.invertAffineTransform(matrix).T
    edge = image.shape[1], image.shape[0]
    x0, y0 = np.clip(np.floor(seen.min(axis=0)).astype(int) - shrink, 0, edge)
    x1, y1 = np.clip(np.ceil(seen.max(axis=0)).astype(int) + shrink, 0, edge)
    if x1 <= x0 or y1 <= y0:  # the window misses the picture
        return image, matrix
    width, height = max(1, round((x1 - x0) / shrink)), max(1, round((y1 - y0) / shrink))
    small = cv2.resize(image[y0:y1, x0:x1], (width, height), interpolation=cv2.INTER_AREA)
    fx, fy = (x1 - x0) / width, (y1 - y0) / height
    back = np.array([[fx, 0, x0 + fx / 2 - 0.5], [0, fy, y0 + fy / 2 - 0.5], [0, 0, 1]])
    return small, matrix @ back
