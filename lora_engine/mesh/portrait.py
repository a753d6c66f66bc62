"""One portrait lifted to a head: fit, texture, eyes, clothes, and hair in the portrait's manner."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from datapipe.faces.base import Face
from datapipe.record import Image
from lora_engine.mesh.anatomy import Anatomy, Phenotype
from lora_engine.mesh.atlas import Atlas
from lora_engine.mesh.fit import Fit, LandmarkMap, fit
from lora_engine.mesh.hair import Style
from lora_engine.mesh.head import PATCH, eye_centre
from lora_engine.mesh.landmarks import CHIN, EYELIDS, FOREHEAD, IRISES, LIPS_INNER, OVAL, Landmarker
from lora_engine.mesh.masks import Masks, masks
from lora_engine.mesh.paint import Skin, paint
from lora_engine.mesh.raster import Array

TEXTURE = 1024  # longest side of the portrait that is looked at
PALETTE = 3000  # colours of hair that are kept
CURLY = (0.62, 0.4)  # coherence of the hair's texture: straight, curly


@dataclass(frozen=True)
class Lifted:
    """Everything one portrait says about its person."""

    photo: Image
    fit: Fit
    masks: Masks
    skin: Skin
    style: Style
    palette: Array  # (m, 3) colours of the hair
    iris: Array
    eyes: Array  # (2, PATCH, PATCH, 4) RGB and trust of the eyeballs
    cloth: Array


class Lifter:
    """Holds the mesh and the landmarker; lifts portraits."""

    def __init__(self, anatomy: Anatomy, where: LandmarkMap, find: Landmarker) -> None:
        self.anatomy = anatomy
        self.where = where
        self.find = find
        self.atlas = Atlas(anatomy)

    def __call__(self, portrait: Image, face: Face, who: Phenotype | None = None) -> Lifted:
        """Raises ValueError when the face cannot be used."""
        photo, scale = _shrunk(portrait)
        left, top, right, bottom = (side * scale for side in face.box)
        eyes = np.asarray(face.points[:2], float) * scale
        points = self.find(photo, (left, top, right, bottom), eyes, self.where.mirror)
        fitted = fit(self.anatomy, self.where, points, who or Phenotype())
        mask = masks(photo, fitted.landmarks)
        return Lifted(
            photo=photo,
            fit=fitted,
            masks=mask,
            skin=paint(photo, mask, fitted, self.anatomy, self.atlas),
            style=hair_style(photo, mask, fitted),
            palette=_palette(photo, mask),
            iris=_iris(photo, fitted.landmarks),
            eyes=_eyes(photo, fitted, self.anatomy),
            cloth=_cloth(photo, mask, fitted.landmarks),
        )


def _shrunk(image: Image) -> tuple[Image, float]:
    scale = min(1.0, TEXTURE / max(image.shape[:2]))
    if scale == 1.0:
        return image, scale
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), scale


def hair_style(photo: Image, mask: Masks, fitted: Fit) -> Style:
    """Volume, length and curl of the hair as the portrait shows it."""
    if mask.bald:
        return Style(length=0.0, density=0.0)
    unit = 1 / fitted.camera.scale  # pixels per decimetre
    points = fitted.landmarks
    volume = _stands_off(mask.person, fitted, unit)
    curly = _curliness(photo, mask.hair, points, unit)
    below = _hangs(mask.hair, points, unit)
    if below > 0.15:
        length = 2.3 + below
        if curly > 0.5:
            return Style(
                length, 0.9 * volume, 0.09, 0.3, 0.55, (1, -0.3, -0.3), (0.3, -1, -0.1), 0.0
            )
        return Style(length, 0.8 * volume, 0.02, 1.5, 0.9, (1, -0.3, -0.2), (0.2, -1, -0.1), 0.0)
    if curly > 0.5:
        return Style(
            0.06 + 0.9 * volume,
            0.8 * volume,
            0.045 + 0.08 * volume,
            0.1 + 0.14 * volume,
            0.15,
            taper=0.25,
        )
    return Style(1.2, 0.9 * volume, 0.01, 1.0, 0.95, taper=0.5)


def _stands_off(person: Array, fitted: Fit, unit: float) -> float:
    """How far the person's outline lies outside the skull, above and beside it, decimetres."""
    skull = fitted.camera.to_pixels(fitted.shape)
    x, eyes = fitted.landmarks[OVAL, 0].mean(), fitted.landmarks[list(IRISES), 1].mean()
    band = person[:, max(0, int(x - 0.3 * unit)) : int(x + 0.3 * unit)].max(axis=1) > 0.5
    above = skull[:, 1].min() - (band.argmax() if band.any() else 0)
    rows = person[max(0, int(eyes - 0.9 * unit)) : max(1, int(eyes - 0.3 * unit))] > 0.5
    width = np.median(rows.sum(axis=1)) if len(rows) else 0.0
    high = (skull[:, 1] < eyes - 0.3 * unit) & (skull[:, 1] > eyes - 0.9 * unit)
    beside = (width - np.ptp(skull[high, 0])) / 2
    return float(np.clip(max(above, beside) / unit, 0.05, 0.75))


def _hangs(hair: Array, points: Array, unit: float) -> float:
    """How far below the chin hair hangs beside the face without a break, decimetres."""
    left, right = points[OVAL, 0].min(), points[OVAL, 0].max()
    wide, chin, mouth = right - left, points[CHIN, 1], points[LIPS_INNER[0], 1]
    lengths = []
    for a, b in ((left - 0.45 * wide, left), (right, right + 0.45 * wide)):
        band = hair[max(0, int(mouth)) :, max(0, int(a)) : max(1, int(b))] > 0.5
        thick = band.sum(axis=1) > 0.08 * wide
        lengths.append(len(thick) if thick.all() else int(thick.argmin()))
    return float(max(lengths) - (chin - mouth)) / unit


def _curliness(photo: Image, hair: Array, points: Array, unit: float) -> float:
    """0 for strands that run together, 1 for curls, from the structure of the hair's texture."""
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(np.float32)
    sure = cv2.erode((hair > 0.9).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    sure[int(points[FOREHEAD, 1] + 0.3 * unit) :] = False
    if sure.sum() < 200:
        return 0.0
    gx, gy = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    sigma = 0.06 * unit
    xx, yy, xy = (cv2.GaussianBlur(g, (0, 0), sigma) for g in (gx * gx, gy * gy, gx * gy))
    coherence = np.hypot(xx - yy, 2 * xy) / np.maximum(xx + yy, 1e-3)
    weight = (xx + yy)[sure]
    mean = float((coherence[sure] * weight).sum() / weight.sum())
    return float(np.clip((CURLY[0] - mean) / (CURLY[0] - CURLY[1]), 0, 1))


def _palette(photo: Image, mask: Masks) -> Array:
    """Colours of the hair, smoothed a little so that noise is not among them."""
    soft = cv2.GaussianBlur(photo, (0, 0), 1.5)
    colours = soft[mask.hair > 0.95].astype(float)
    if len(colours) < 50:
        return mask.hair_colour[None]
    return np.asarray(colours[:: max(1, len(colours) // PALETTE)])


def _iris(photo: Image, points: Array) -> Array:
    """The iris's colour, from its lower half: the upper lies in the lid's shade."""
    angles = np.radians(np.arange(20, 161, 20))
    found = []
    for first in IRISES:
        centre = points[first]
        radius = np.linalg.norm(points[first + 1 : first + 5] - centre, axis=1).mean()
        ring = centre + 0.68 * radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        column, row = (
            np.clip(np.rint(ring[:, k]).astype(int), 0, photo.shape[1 - k] - 1) for k in (0, 1)
        )
        found.append(photo[row, column])
    return np.asarray(np.median(np.concatenate(found), axis=0), float)


def _eyes(photo: Image, fitted: Fit, anatomy: Anatomy) -> Array:
    """The eyeballs as the portrait shows them between the lids."""
    line = (np.arange(PATCH) + 0.5) / PATCH * 2 - 1
    x, y = np.meshgrid(line, -line)
    z = np.sqrt(np.clip(1 - x * x - y * y, 0, 1))
    sphere = np.stack([x, y, z], axis=2).reshape(-1, 3)
    patches = []
    for eye, lids in zip(anatomy.eyes, EYELIDS, strict=True):
        centre, radius = eye_centre(fitted.aligned[eye])
        places = fitted.camera.to_pixels(centre + radius * sphere)[:, :2]
        grid = places.reshape(PATCH, PATCH, 2).astype(np.float32)
        colour = cv2.remap(photo.astype(np.float32), grid, None, cv2.INTER_LINEAR)
        opening = np.rint(fitted.landmarks[lids] * 16).astype(np.int32)
        mask = np.zeros(photo.shape[:2], np.uint8)
        cv2.fillPoly(mask, [opening], 255, cv2.LINE_AA, 4)
        shown = cv2.remap(mask, grid, None, cv2.INTER_LINEAR).astype(np.float32) / 255
        patches.append(np.dstack([colour, cv2.GaussianBlur(shown, (0, 0), 1.0)]))
    return np.stack(patches)


def _cloth(photo: Image, mask: Masks, points: Array) -> Array:
    """The middle colour of what the person wears."""
    tall = np.ptp(points[OVAL, 1])
    below = np.zeros(mask.person.shape, bool)
    below[int(points[CHIN, 1] + 0.3 * tall) :] = True
    worn = below & (mask.person > 0.9) & (mask.skin < 0.1) & (mask.hair < 0.1)
    if worn.sum() < 100:
        return np.array([92.0, 98.0, 108.0])
    return np.asarray(np.clip(np.median(photo[worn], axis=0), 18, 235), float)
