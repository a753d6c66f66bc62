"""The mesh engine as a view synthesiser: a portrait in, the same person at every yaw out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import cv2
import numpy as np

from datapipe.errors import BadSample
from datapipe.faces.base import Face, FaceAnalyzer
from datapipe.models import model, model_path
from datapipe.record import Image, Pose

VERSION = 3  # of the pictures: to be raised whenever the same input gives other bytes
LARGEST_TURN = 30.0  # of the portrait, degrees
SMALLEST_FACE = 48.0  # pixels between the face's sides


@dataclass(frozen=True)
class MeshSettings:
    """How views are rendered."""

    size: int = 512
    """Side of a view in pixels."""
    noise: float = 1.6
    """Camera noise, grey levels."""
    blur: float = 0.35
    """Blur of the lens, pixels."""

    def __post_init__(self) -> None:
        if not 64 <= self.size <= 2048:
            raise ValueError(f"size must be within 64 and 2048 pixels, not {self.size}")
        if self.noise < 0 or self.blur < 0:
            raise ValueError(f"noise and blur are not negative, not {self.noise}, {self.blur}")


@dataclass
class MeshSynthesizer:
    """Lifts the reference onto a textured head and renders it: light, background and framing are
    the reference's own. Runs on one core; the same call gives the same bytes in every process."""

    settings: MeshSettings = field(default_factory=MeshSettings)
    faces: FaceAnalyzer | None = None
    """Finds the face in the reference; the light pack where none is given."""

    name: str = field(default="mesh", init=False)

    def setup(self) -> None:
        """Raises UserError when a data file is missing."""
        from datapipe.faces.light import LightFaces
        from lora_engine.mesh.studio import Studio

        cv2.setNumThreads(1)
        self._faces = self.faces or LightFaces()
        self._faces.setup()
        self._studio = Studio(model_path("mpfb2"), model_path("face-landmarker"))

    def provenance(self) -> dict[str, object]:
        from datapipe.faces.light import LightFaces

        return {
            "engine": self.name,
            "version": VERSION,
            "mesh": model("mpfb2").sha256,
            "landmarks": model("face-landmarker").sha256,
            "faces": (self.faces or LightFaces()).provenance(),
            **asdict(self.settings),
        }

    def __call__(self, reference: Image, yaws: Sequence[int], seeds: Sequence[int]) -> list[Image]:
        """One square view for each yaw; a seed steers that view's camera noise and nothing else.

        Raises BadSample("engine_refused", …) when the reference shows no usable frontal face.
        """
        from lora_engine.mesh.render import Sensor, Shot, render
        from lora_engine.mesh.studio import background, cut_square, frame, person

        face = self._face(reference)
        square, face = cut_square(reference, face)
        try:
            lifted = self._studio.lift(square, face)
        except ValueError as wrong:
            raise BadSample("engine_refused", f"the face cannot be fitted: {wrong}") from wrong
        turned = lifted.fit.camera.angle
        if turned > LARGEST_TURN:
            raise BadSample("engine_refused", f"the face is turned by {turned:.0f} degrees")
        head = person(lifted, self._studio)
        camera = frame(lifted, head)
        behind = background(lifted)
        sensor = Sensor(self.settings.noise, self.settings.blur)
        views = []
        for yaw, seed in zip(yaws, seeds, strict=True):
            shot = Shot(head, Pose(float(yaw), 0.0, 0.0), camera, lifted.skin.light)
            picture = render([shot], (self.settings.size, self.settings.size), behind)
            views.append(sensor(picture, np.random.default_rng(seed)))
        return views

    def _face(self, reference: Image) -> Face:
        found = self._faces.find([reference])[0]
        if not found:
            raise BadSample("engine_refused", "no face is found in the reference")
        if found[0].size < SMALLEST_FACE:
            raise BadSample("engine_refused", f"the face is only {found[0].size:.0f} pixels large")
        return found[0]
