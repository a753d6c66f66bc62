"""One face that may be picked: its merit, and the picture of it in the pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2

from datapipe.faces.base import Face
from datapipe.faces.crops import eye_visibility, sharpness
from datapipe.pictures import encode_jpeg
from datapipe.prepare.frontal import cut
from datapipe.record import Image
from lora_engine.acquire import yaw_geometry
from lora_engine.pairs import SubjectFrame

EYES_OPEN = 0.2
"""`eye_visibility` below which eyes are closed."""
EYES_SEEN = 30
"""Degrees of yaw up to which closed eyes can be told."""
FLAW = 0.5
"""Factor on a frame's merit for closed eyes, and again for a second face in the frame."""
UNKNOWN = 0.1
"""Merit of a face that is too small for its sharpness to be known; in focus is about 0.28."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A face in a frame or picture, measured at full size."""

    frame: int
    """Place in the clip, or among the pictures."""
    image: Image
    face: Face
    yaw: float
    """Degrees, by which the square is placed."""
    sharp: float | None
    """None where the face is too small for that."""
    merit: float
    """Sharpness, less for flaws."""

    def cut_to(
        self, frontal: Choice, side: int, size: int, yaw: int, timestamp: float
    ) -> SubjectFrame:
        """Return the frame as it stands for a yaw: a square of `side` pixels, scaled to `size`."""
        pose = self.face.pose
        height, width = self.image.shape[:2]
        square = yaw_geometry.head_square(
            self.face.box, self.yaw, frontal.face.size, side, (width, height)
        )
        return SubjectFrame(
            yaw=yaw,
            picture=encode_jpeg(sized(cut(self.image, square, size), size)),
            measured_yaw=None if pose is None else yaw_geometry.yaw_of(pose),
            timestamp=timestamp,
            sharpness=self.sharp,
        )


def merit(image: Image, face: Face, others: Sequence[Face], yaw: int) -> tuple[float | None, float]:
    """Measure a frame: its sharpness, None where the face is too small for that, and its merit."""
    sharp = sharpness(image, face)
    worth = UNKNOWN if sharp is None else sharp
    if abs(yaw) <= EYES_SEEN and eye_visibility(image, face) < EYES_OPEN:
        worth *= FLAW
    if others:
        worth *= FLAW
    return sharp, worth


def whole(face: Face, image: Image) -> bool:
    """Whether the face is in the picture, but for up to a tenth on each side."""
    left, top, right, bottom = face.box
    height, width = image.shape[:2]
    rim = face.size / 10
    return left >= -rim and top >= -rim and right <= width + rim and bottom <= height + rim


def sized(image: Image, side: int) -> Image:
    """Enlarge a picture to `side` pixels where the clip shows the head smaller."""
    if image.shape[0] == side:
        return image
    larger: Image = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
    return larger
