"""Faces cut out of pictures: upright or by a box, and how well such a cut shows the face."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from datapipe.faces.base import Face, Floats
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


FACE_SIZE = 112
"""Mean side in pixels to which every face is brought before it is measured."""
_INSIDE = 0.8
"""Share of the box's side that is looked at: features and skin, hardly any hair or background."""
_FINE, _MIDDLE, _COARSE = 0.7, 1.4, 5.6
"""Sigmas of the Gaussians between which lie the two bands; pixels of the face of `FACE_SIZE`."""
_EYE = 9, 5
"""How far the patch around an eye reaches from its middle, across and down, in the aligned face."""
_FEATURES = np.s_[30:95, 25:88]
"""Brows to mouth, in the aligned face."""
_WIDE_OPEN = 0.04
"""What `eye_visibility` takes the root of, where people open their eyes in surprise."""


def sharpness(image: Image, face: Face) -> float | None:
    """Fine detail over coarse detail of a face: about 0.28 in focus, and 0.2 and 0.13 when blurred
    by a Gaussian with a sigma of 1 and 2 % of the face's side.

    It is the ratio of the amplitudes of two frequency bands, so neither size, exposure nor contrast
    matters, and the noise's share of the fine band is estimated and taken off. None for a face
    smaller than `FACE_SIZE`: enlarging would invent what is measured.

    The window is the detector's box, not the five points: turned away, the points of the hidden
    side are guesses and their similarity enlarges the face, while box and isotropic filters
    measure a profile as they do a frontal face.
    """
    if face.size < FACE_SIZE:
        return None
    size = round(FACE_SIZE * _INSIDE)
    grey = _grey(warp(image, box_window(face.box, size, _INSIDE, 0.0), size))
    fine = _blur(grey, _FINE) - _blur(grey, _MIDDLE)
    coarse = _blur(grey, _MIDDLE) - _blur(grey, _COARSE)
    detail = float(fine.var()) - _NOISE_SHARE * _noise(grey) ** 2
    return float(np.sqrt(max(0.0, detail) / max(1.0, float(coarse.var()))))


def _grey(image: Image) -> NDArray[np.float32]:
    grey: NDArray[np.float32] = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return grey


def _blur(grey: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    blurred: NDArray[np.float32] = cv2.GaussianBlur(grey, (0, 0), sigma)
    return blurred


def _noise(grey: NDArray[np.float32]) -> float:
    """Standard deviation of white noise (Immerkaer 1996, with the median: edges are few)."""
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    return float(np.median(np.abs(cv2.filter2D(grey, -1, mask)))) / 0.6745 / 6


def _noise_share() -> float:
    """The fine band's variance where white noise of variance 1 comes in: its filter's energy."""
    point = np.zeros((33, 33), np.float32)
    point[16, 16] = 1
    return float(((_blur(point, _FINE) - _blur(point, _MIDDLE)) ** 2).sum())


_NOISE_SHARE = _noise_share()


def eye_visibility(image: Image, face: Face) -> float:
    """How far the worse eye is open, 0..1: under 0.2 closed or squeezed, about 0.4 at rest.

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
    contrast = max(float(grey[_FEATURES].var()), 1.0)
    products = []
    for x, y in TEMPLATE[:2].round().astype(int):
        rows = slice(y - _EYE[1], y + _EYE[1] + 1)
        columns = slice(x - _EYE[0], x + _EYE[0] + 1)
        upright, level = float(across[rows, columns].mean()), float(down[rows, columns].mean())
        products.append(upright / contrast * upright / max(upright + level, 1e-6))
    return float(np.sqrt(min(1.0, min(products) / _WIDE_OPEN)))
