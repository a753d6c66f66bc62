"""Face models with another judge of the pose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from datapipe.faces.base import Face, FaceAnalyzer, Features, Floats
from datapipe.record import Image
from filters.head_pose import PoseEstimator


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

    def find(self, images: Sequence[Image]) -> list[list[Face]]:
        """Find the faces of each picture, largest first."""
        found = zip(images, self._faces.find(images), strict=True)
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
