"""Head pose by a 6DRepNet-style network in ONNX: a second judge, apart from the face backend.

It reads the files that github.com/yakhyo/head-pose-estimation exports, and any other with their
signature: an ImageNet-normalised RGB face of 224 x 224 in, a rotation matrix out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from datapipe.errors import UserError
from datapipe.faces.base import Face, FaceAnalyzer, Features, Floats
from datapipe.faces.onnx import Device, session
from datapipe.models import digest
from datapipe.record import Image, Pose

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
"""ImageNet's, of RGB values 0..1."""
MARGIN = 0.2
"""How far the crop reaches past the box: beside it by so much of its height, above and below by so
much of its width."""


class PoseEstimator(Protocol):
    """Measures head poses of detected faces."""

    name: str
    """Travels with the scores as `pose_estimator`."""

    def setup(self) -> None:
        """Load on the worker. Raises UserError."""

    def provenance(self) -> dict[str, object]:
        """Model files by SHA-256; known before `setup`, free of paths. Raises UserError."""

    def __call__(self, image: Image, face: Face) -> Pose | None:
        """The pose in the project's convention; None where it cannot be measured."""


class SixDRepNet:
    """A `PoseEstimator` that runs an exported 6DRepNet or a relative of it."""

    name = "6drepnet"

    def __init__(self, model: Path, device: Device = "cpu") -> None:
        self.model = model
        self.device: Device = device
        self._session: Any = None

    def provenance(self) -> dict[str, object]:
        """The model file by SHA-256. Raises UserError when it is missing."""
        return {"name": self.name, "files": {"model": digest(self._file())}}

    def setup(self) -> None:
        """Raises UserError when the file is missing or is another kind of network."""
        self._session = session(self._file(), self.device)
        (taken, *more), made = self._session.get_inputs(), self._session.get_outputs()
        if more or taken.shape[1:] != [3, 224, 224] or made[0].shape[1:] != [3, 3]:
            raise UserError(
                f"{self.model} takes {taken.shape} and gives {made[0].shape}; a 6DRepNet export "
                "takes [n, 3, 224, 224] and gives [n, 3, 3]"
            )

    def __call__(self, image: Image, face: Face) -> Pose | None:
        """The pose; None where nothing of the face is in the picture. Raises RuntimeError before
        `setup`.
        """
        if self._session is None:
            raise RuntimeError("setup() comes first")
        crop = face_crop(image, face.box)
        if crop is None:
            return None
        pixels = ((crop.astype(np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)[None]
        name = self._session.get_inputs()[0].name
        matrix = self._session.run(None, {name: np.ascontiguousarray(pixels)})[0][0]
        return pose_of(matrix) if np.isfinite(matrix).all() else None

    def _file(self) -> Path:
        if not self.model.is_file():
            raise UserError(
                f"{self.model} is not a file: give the ONNX export of a 6DRepNet-style network, or "
                "leave the pose to the face backend"
            )
        return self.model


def face_crop(image: Image, box: tuple[float, float, float, float]) -> Image | None:
    """(224, 224, 3): the box with a margin, cut at the picture's edge and stretched to a square, as
    the networks were published with. None when nothing of the box is inside the picture.
    """
    left, top, right, bottom = box
    beside, above = MARGIN * (bottom - top), MARGIN * (right - left)
    height, width = image.shape[:2]
    x0, x1 = (int(np.clip(x, 0, width)) for x in (left - beside, right + beside))
    y0, y1 = (int(np.clip(y, 0, height)) for y in (top - above, bottom + above))
    if x1 <= x0 or y1 <= y0:
        return None
    crop: Image = cv2.resize(image[y0:y1, x0:x1], (224, 224), interpolation=cv2.INTER_LINEAR)
    return crop


def pose_of(rotation: NDArray[np.floating]) -> Pose:
    """The pose of a 6DRepNet matrix, Rz(roll) Ry(yaw) Rx(pitch), in the project's convention.

    The network's yaw grows towards image left (its drawing code negates it); its pitch and roll
    agree with ours.
    """
    yaw = np.arctan2(-rotation[2, 0], np.hypot(rotation[0, 0], rotation[1, 0]))
    pitch = np.arctan2(rotation[2, 1], rotation[2, 2])
    roll = np.arctan2(rotation[1, 0], rotation[0, 0])
    return Pose(*(float(np.degrees(angle)) for angle in (-yaw, pitch, roll)))


class PosedFaces:
    """A `FaceAnalyzer` whose faces have the poses of an estimator in place of their own.

    Pairs are then not labelled by the estimator that judges the views, whose errors no figure would
    show.
    """

    def __init__(self, faces: FaceAnalyzer, pose: PoseEstimator) -> None:
        """Takes both, not yet set up."""
        self._faces, self._pose = faces, pose
        self.name, self.recogniser = faces.name, faces.recogniser

    def setup(self) -> None:
        """Load the models. Raises UserError."""
        self._faces.setup()
        self._pose.setup()

    def provenance(self) -> dict[str, object]:
        """Return the model files by SHA-256. Raises UserError."""
        return {**self._faces.provenance(), "pose": self._pose.provenance()}

    def find(self, images: Sequence[Image], *, quick: bool = False) -> list[list[Face]]:
        """Find the faces of each picture, largest first."""
        found = zip(images, self._faces.find(images, quick=quick), strict=True)
        return [[replace(f, pose=self._pose(image, f)) for f in some] for image, some in found]

    def embed(self, image: Image, faces: Sequence[Face]) -> Floats:
        """Embed as the face models do."""
        return self._faces.embed(image, faces)

    def embed_each(self, images: Sequence[Image], faces: Sequence[Face]) -> Floats:
        """Embed as the face models do."""
        return self._faces.embed_each(images, faces)

    def features(self, image: Image, face: Face) -> Features | None:
        """Read features as the face models do."""
        return self._faces.features(image, face)

    def surface(self, image: Image, face: Face) -> Floats | None:
        """Read the skin's points as the face models do."""
        return self._faces.surface(image, face)
