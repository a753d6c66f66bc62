"""How far a head is turned in a picture, by two readings that fail on different heads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from datapipe.faces.base import Face, FaceAnalyzer, Floats
from datapipe.faces.landmarks import turn
from datapipe.pictures import decode_jpeg
from datapipe.record import Identity, Image, Pose

READS: Mapping[str, tuple[tuple[float, float], ...]] = {
    "light": (
        *((0.0, 0.0), (30.6, 30.0), (45.9, 45.0), (64.5, 60.0), (83.9, 75.0)),
        *((90.0, 80.0), (91.0, 90.0)),
    ),
    "landmarks": ((0.0, 0.0), (15.9, 15.0), (31.9, 30.0), (47.4, 45.0), (61.8, 60.0), (68.0, 70.0)),
}
"""What a face backend reads of a head and what is true, |yaw| in degrees, straight lines between:
3DDFA reads portraits so (docs/filters.md). Its angles fold back from about 85 degrees on: where
they do not, a reading of 90 is of a head short of it. Others are taken at their word. The turn of
the landmarks against the portrait's was read on 24 virtual people."""
SECOND = 2 / 3
"""Share of the landmarks in the yaw that counts, up to `LEVEL_TO`."""
AGREE = 8.0
"""Degrees by which the backend and the landmarks may differ: else the yaw is not known."""
ASKED = 15.0
"""Degrees about the yaw sought within which the landmarks are asked."""
LEVEL_TO = 60.0
"""Degrees of yaw up to which pitch and roll mean something."""


def turned(pose: Pose, backend: str) -> float:
    """The yaw that a face backend's reading means, also where its Euler angles fold back.

    (yaw, pitch, roll) and (180 - yaw, pitch + 180, roll + 180) are one rotation, and heads do not
    hang upside down.
    """
    folded = abs(pose.pitch) + abs(pose.roll) > 180
    return corrected(math.copysign(180, pose.yaw) - pose.yaw if folded else pose.yaw, backend)


def corrected(yaw: float, reader: str) -> float:
    """What a reading means, by `READS`."""
    if reader not in READS:
        return yaw
    read, true = zip(*READS[reader], strict=True)
    return math.copysign(float(np.interp(abs(yaw), read, true)), yaw)


@dataclass(frozen=True, slots=True, eq=False)
class Front:
    """A person's face in the portrait, against which turns are read."""

    faces: FaceAnalyzer
    surface: Floats | None
    yaw: float
    """Degrees."""

    @classmethod
    def of(cls, identity: Identity, faces: FaceAnalyzer) -> Front:
        """That of someone who has a portrait."""
        reference = identity.reference
        portrait = decode_jpeg(identity.portrait)
        left, top, right, _ = reference.crop
        scale = portrait.shape[1] / (right - left)
        x0, y0, x1, y1 = reference.box
        box = (x0 - left) * scale, (y0 - top) * scale, (x1 - left) * scale, (y1 - top) * scale
        face = Face(box, np.zeros((5, 2), np.float32), reference.score, reference.pose)
        return cls(faces, faces.surface(portrait, face), turned(reference.pose, faces.name))

    def yaw_of(self, image: Image, face: Face, near: int) -> float | None:
        """How the person's face is turned, in degrees; None where that is doubtful.

        Heads differ by 5 degrees and more in what a network reads of them. The landmarks are asked
        where the face may be turned by about `near`, and that is no more than `LEVEL_TO`.
        """
        assert face.pose is not None
        first = turned(face.pose, self.faces.name)
        asked = abs(near) <= LEVEL_TO and abs(first - near) <= ASKED
        second = self.by_landmarks(image, face) if asked else None
        if second is None:
            return first
        return None if abs(second - first) > AGREE else first + SECOND * (second - first)

    def by_landmarks(self, image: Image, face: Face) -> float | None:
        """The same by the landmarks alone; None where the face models give none."""
        surface = None if self.surface is None else self.faces.surface(image, face)
        if self.surface is None or surface is None:
            return None
        return corrected(self.yaw + turn(self.surface, surface), "landmarks")
