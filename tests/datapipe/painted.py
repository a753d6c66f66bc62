"""Painted faces whose truth can be read off the picture, and a FaceAnalyzer that reads it.

A face is a square in its person's colour with fine texture; a white bar stands where the nose
points: in the middle at yaw 0, at the right edge at 90 degrees. So a mirrored picture has the
mirrored yaw, and what is known of a picture survives encoding and scaling.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from datapipe.faces.base import Face, Floats
from datapipe.record import Image, Pose

COLOURS = ((205, 40, 40), (40, 170, 40), (60, 60, 225), (195, 40, 195), (200, 190, 40))
"""One for each person."""
_SHARE = 0.9  # of half the face, for 90 degrees


@dataclass(frozen=True)
class Painted:
    """A face to be painted."""

    person: int
    yaw: float
    side: int
    left: int
    top: int


@functools.cache
def _skin(person: int, side: int) -> Image:
    texture = np.random.default_rng(person).normal(0, 1, (side, side))
    texture = cv2.GaussianBlur(texture, (0, 0), side / 80)
    patch = np.array(COLOURS[person]) + texture[..., None] / texture.std() * 14
    return np.clip(patch, 0, 255).astype(np.uint8)


def paint(
    faces: Sequence[Painted],
    width: int = 480,
    height: int = 320,
    blur: float = 0,
    background: int = 90,
) -> Image:
    image = np.full((height, width, 3), background, np.uint8)
    for face in faces:
        patch = _skin(face.person, face.side).copy()
        middle = face.side / 2 * (1 + _SHARE * face.yaw / 90)
        half = max(1, face.side // 40)
        patch[:, round(middle - half) : round(middle + half)] = 255
        rows = slice(face.top, face.top + face.side)
        image[rows, face.left : face.left + face.side] = patch
    return image if not blur else cv2.GaussianBlur(image, (0, 0), blur)


@dataclass
class PaintedFaces:
    """Reads painted faces; counts the pictures it was given."""

    smallest: int = 12
    looked: int = 0
    name: str = field(default="painted", init=False)
    recogniser: str = field(default="painted", init=False)

    def setup(self) -> None:
        pass

    def provenance(self) -> dict[str, object]:
        return {"faces": self.name}

    def find(self, images: Sequence[Image], *, quick: bool = False) -> list[list[Face]]:
        self.looked += len(images)
        return [sorted(self._read(image), key=lambda face: -face.size) for image in images]

    def embed(self, image: Image, faces: Sequence[Face]) -> Floats:
        rows = np.zeros((len(faces), len(COLOURS)), np.float32)
        for row, face in zip(rows, faces, strict=True):
            left, top, right, bottom = (round(edge) for edge in face.box)
            colour = np.median(image[top:bottom, left:right].reshape(-1, 3), axis=0)
            row[np.argmin(np.abs(np.array(COLOURS) - colour).sum(1))] = 1
        return rows

    def embed_each(self, images: Sequence[Image], faces: Sequence[Face]) -> Floats:
        rows = [self.embed(*pair) for pair in zip(images, ([face] for face in faces), strict=True)]
        return np.concatenate(rows) if rows else np.zeros((0, len(COLOURS)), np.float32)

    def features(self, image: Image, face: Face) -> None:
        """Painted faces do nothing with their mouths."""

    def surface(self, image: Image, face: Face) -> None:
        """Painted faces have no skin."""

    def _read(self, image: Image) -> Iterator[Face]:
        vivid = cv2.inRange(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), (0, 60, 60), (180, 255, 255))
        if vivid.any():
            masks = (cv2.inRange(image, np.add(c, -60), np.add(c, 60)) & vivid for c in COLOURS)
            faces = (self._face(image, mask > 0) for mask in masks)
            yield from (face for face in faces if face is not None)

    def _face(self, image: Image, alike: NDArray[np.bool_]) -> Face | None:
        rows, columns = np.flatnonzero(alike.mean(1) > 0.01), np.flatnonzero(alike.mean(0) > 0.01)
        if len(rows) < self.smallest or len(columns) < self.smallest:
            return None
        left, right = float(columns[0]), float(columns[-1] + 1)
        top, bottom = float(rows[0]), float(rows[-1] + 1)
        inside = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        white = np.clip(inside.min(2).astype(float) - 120, 0, None).mean(0)
        if white.max() < 20:
            return None
        where = float((white * (np.arange(len(white)) + 0.5)).sum() / white.sum()) / len(white)
        side = right - left
        shares = np.float32([[0.3, 0.35], [0.7, 0.35], [0.5, 0.55], [0.35, 0.8], [0.65, 0.8]])
        points = np.float32([left, top]) + shares * np.float32(side)
        yaw = (where - 0.5) * 180 / _SHARE
        return Face((left, top, right, bottom), points, 0.9, Pose(yaw, 0.0, 0.0))
