"""What every face backend offers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from datapipe.record import Image, Pose

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Face:
    """One detected face."""

    box: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels; may reach past the picture's edge."""
    points: Floats
    """(5, 2) pixels: eye at image left, eye at image right, nose tip, mouth corner left, right."""
    score: float
    """The detector's confidence, 0..1."""
    pose: Pose | None = None
    """In the project's convention; None where it could not be measured."""
    mouth: float | None = None
    """How far the mouth is open, as a by-product of the pose: it differs by about 1 between shut
    and wide open, but where it is shut depends on the person."""

    @property
    def size(self) -> float:
        """Mean side of the box, pixels."""
        left, top, right, bottom = self.box
        return ((right - left) + (bottom - top)) / 2


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What is read off one face about its expression; see `datapipe.faces.landmarks`."""

    lips: float
    """Distance between the lips over the mouth's width."""
    width: float
    """The mouth's width over the distance of the outer corners of the eyes."""
    lids: float
    """Height over width of the eye that is less open."""
    shapes: Floats
    """(52,): MediaPipe's blend shapes, 0..1."""


class FaceAnalyzer(Protocol):
    """Boxes, five points, score, pose; apart from them what costs more: embeddings, features."""

    name: str
    """The backend's, one of `datapipe.faces.FACES`."""
    recogniser: str
    """Which network embeds, for the rules: thresholds belong to one recogniser."""

    def setup(self) -> None:
        """Load the models. Raises UserError when a file is missing or a provider fell back."""

    def provenance(self) -> dict[str, object]:
        """Model files by SHA-256; known before `setup`; free of paths."""

    def find(self, images: Sequence[Image], *, quick: bool = False) -> list[list[Face]]:
        """The faces of each picture, with pose, largest first.

        With `quick` the pose may be less exact, and cost half: to follow a face that is known.
        """

    def embed(self, image: Image, faces: Sequence[Face]) -> Floats:
        """(faces, dimensions), unit rows: their dot product is the identity cosine."""

    def embed_each(self, images: Sequence[Image], faces: Sequence[Face]) -> Floats:
        """The same for one face of each picture, in one batch."""

    def features(self, image: Image, face: Face) -> Features | None:
        """What `datapipe.faces.landmarks` compares, of a face about frontal; None if unseen."""

    def surface(self, image: Image, face: Face) -> Floats | None:
        """(478, 3): points of the skin for `datapipe.faces.landmarks.turn`; None if unknown."""
