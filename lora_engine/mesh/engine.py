"""The mesh engine as a view synthesiser: a portrait in, the same person at every yaw out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import cv2
import numpy as np

from datapipe.errors import BadSample, check_range
from datapipe.faces.base import Face, FaceAnalyzer
from datapipe.models import model, model_path
from datapipe.record import Image, Pose

VERSION = 3
"""Version of the pictures, to be raised whenever the same input gives other bytes."""
LARGEST_TURN = 30.0
"""Degrees by which the face of a reference may be turned."""
SMALLEST_FACE = 48.0
"""Size of the smallest face that is lifted, pixels."""


@dataclass(frozen=True)
class MeshSettings:
    """How views are rendered. Raises ValueError for a value out of its range."""

    size: int = 512
    """Side of a view, pixels."""
    noise: float = 1.6
    """Noise of the camera, grey levels."""
    blur: float = 0.35
    """Blur of the lens, pixels."""

    def __post_init__(self) -> None:
        check_range(self, "size", least=64, most=2048, option="")
        check_range(self, "noise", "blur", least=0, option="")


@dataclass
class MeshSynthesizer:
    """Lifts the reference onto a textured head and renders it.

    Light, background and framing are the reference's own. It runs on one core, and the same call
    gives the same bytes in every process.
    """

    settings: MeshSettings = field(default_factory=MeshSettings)
    faces: FaceAnalyzer | None = None
    """What finds the face in the reference; the light pack where none is given."""

    name: str = field(default="mesh", init=False)

    def setup(self) -> None:
        """Load mesh and models. Raises UserError when a data file is missing."""
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
        """Render one square view for each yaw; its seed decides its camera noise, nothing else.

        Raises BadSample "engine_refused" when the reference shows no usable frontal face.
        """
        from lora_engine.mesh.render import HeadShot, Sensor, render
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
            shot = HeadShot(head, Pose(float(yaw), 0.0, 0.0), camera, lifted.skin.light)
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
