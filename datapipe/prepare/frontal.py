"""Which sighting of a person makes the best reference: one bound and one score."""

from __future__ import annotations

from dataclasses import dataclass

from datapipe.faces.base import Face
from datapipe.faces.eyes import eye_visibility
from datapipe.faces.sharpness import FACE_SIZE, sharpness
from datapipe.record import Image

WEIGHTS = {"yaw": 0.40, "pitch": 0.15, "sharpness": 0.20, "size": 0.10, "eyes": 0.10, "score": 0.05}
"""Of the parts of `Measured.merit`; they sum to 1."""
SHARP = 0.28
"""A face in focus; see `datapipe.faces.sharpness`."""
MIN_INSIDE = 0.9
"""Share of the face box that must be inside the frame."""
LARGE = 256.0
"""Pixels; a larger face makes no better portrait."""


@dataclass(frozen=True, slots=True)
class FrontalBound:
    """What a face must be to serve as a reference."""

    max_yaw: float = 15.0
    """Degrees to either side."""
    max_pitch: float = 20.0
    """Degrees up or down."""
    min_face: float = 112.0
    """Mean side of the face box, in pixels of the full-size frame; at least 112."""
    min_sharpness: float = 0.12
    """`datapipe.faces.sharpness`: about 0.28 in focus, 0.13 blurred by 2 % of the face's side."""

    def __post_init__(self) -> None:
        if not 0 < self.max_yaw <= 90 or not 0 < self.max_pitch <= 90:
            raise ValueError("max_yaw and max_pitch must be above 0 and at most 90 degrees")
        if self.min_face < FACE_SIZE:
            raise ValueError(
                f"min_face must be at least {FACE_SIZE} pixels, not {self.min_face}: "
                "the sharpness of a smaller face cannot be told"
            )
        if not 0 <= self.min_sharpness < SHARP:
            raise ValueError(f"min_sharpness must be from 0 to {SHARP}, not {self.min_sharpness}")

    def frontal(self, face: Face, image: Image) -> bool:
        """Whether the face looks at the camera, and is in the picture."""
        pose = face.pose
        if pose is None or abs(pose.yaw) > self.max_yaw or abs(pose.pitch) > self.max_pitch:
            return False
        return _inside(face, image) >= MIN_INSIDE


@dataclass(frozen=True, slots=True)
class Measured:
    """A face as it counts for the choice of a reference."""

    face: Face
    size: float
    """Mean side in pixels of the full-size frame."""
    sharpness: float | None
    """None where the picture at hand is too small to tell."""
    eyes: float

    def merit(self, bound: FrontalBound) -> float:
        """0..1: the weighted sum of how straight, sharp, large, open-eyed and certain it is.

        Yaw and pitch count linearly down to 0 at the bound, sharpness up to `SHARP`, size up to
        `LARGE`. An unknown sharpness counts half.
        """
        pose = self.face.pose
        if pose is None:
            return 0.0
        sharp = 0.5 if self.sharpness is None else min(1.0, self.sharpness / SHARP)
        parts = {
            "yaw": max(0.0, 1 - abs(pose.yaw) / bound.max_yaw),
            "pitch": max(0.0, 1 - abs(pose.pitch) / bound.max_pitch),
            "sharpness": sharp,
            "size": min(1.0, self.size / LARGE),
            "eyes": self.eyes,
            "score": self.face.score,
        }
        return sum(WEIGHTS[name] * part for name, part in parts.items())


def measure(image: Image, face: Face, scale: float) -> Measured:
    """Measure a face of a picture that is `scale` times as large as the full-size frame."""
    return Measured(face, face.size / scale, sharpness(image, face), eye_visibility(image, face))


def _inside(face: Face, image: Image) -> float:
    left, top, right, bottom = face.box
    height, width = float(image.shape[0]), float(image.shape[1])
    shown = max(0.0, min(right, width) - max(left, 0.0)) * (min(bottom, height) - max(top, 0.0))
    return shown / max(1e-9, (right - left) * (bottom - top))
