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
from lora_engine.mesh.hair_style import hair_palette, hair_style
from lora_engine.mesh.head import PATCH, eye_centre
from lora_engine.mesh.landmarks import CHIN, EYELIDS, IRISES, OVAL, Landmarker
from lora_engine.mesh.masks import Masks, masks
from lora_engine.mesh.paint import Skin, paint
from lora_engine.mesh.raster import Array

UNSEEN_CLOTH = np.array([92.0, 98.0, 108.0])  # where the portrait ends at the neck
COLLAR = 0.4  # of the face's height below the chin: from there on people wear something
WORN = 0.2  # share of the chest; where less of it is unlike skin, the cloth has the skin's colour
TEXTURE = 1024  # longest side of the portrait that is looked at


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
            palette=hair_palette(photo, mask, fitted),
            iris=_iris(photo, fitted.landmarks),
            eyes=_eyes(photo, fitted, self.anatomy),
            cloth=_cloth(photo, mask, fitted.landmarks),
        )


def _shrunk(image: Image) -> tuple[Image, float]:
    scale = min(1.0, TEXTURE / max(image.shape[:2]))
    if scale == 1.0:
        return image, scale
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), scale


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
    """The middle colour of what the person wears: below the neck, where it is not bare skin.

    Not by the person's mask: where the wall behind has the shirt's colour, that loses the shirt.
    """
    tall, wide = np.ptp(points[OVAL, 1]), np.ptp(points[OVAL, 0])
    x, y = points[OVAL, 0].mean(), points[CHIN, 1] + COLLAR * tall
    part = slice(int(y), None), slice(max(0, int(x - 0.6 * wide)), max(0, int(x + 0.6 * wide)))
    chest, worn = photo[part].reshape(-1, 3), mask.skin[part].ravel() <= 0.1
    if len(chest) < 100:
        return UNSEEN_CLOTH
    if worn.mean() < WORN:
        worn[:] = True
    return np.asarray(np.clip(np.median(chest[worn], axis=0), 18, 235), float)
