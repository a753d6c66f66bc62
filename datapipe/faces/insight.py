"""The production face backend: InsightFace's buffalo_l pack (SCRFD, 68 points in 3D, ArcFace)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datapipe.errors import UserError, check_range
from datapipe.faces.base import Face, Features, Floats
from datapipe.faces.crops import align
from datapipe.faces.landmarks import ExpressionReader
from datapipe.faces.onnx import Device, check_device, options, providers, readable
from datapipe.models import digest, model, model_path
from datapipe.record import Image, Pose

PACK = Path("~/.insightface/models/buffalo_l")
"""Where insightface itself keeps the pack."""
FILES = {
    "detection": "det_10g.onnx",
    "landmark_3d_68": "1k3d68.onnx",
    "recognition": "w600k_r50.onnx",
}
"""The three of the pack's five models that are needed, by the task insightface finds them fit for.
"""
DETECTION_SIZES = [(128, 128), (640, 640)]
"""insightface's default: the small pass finds faces that fill the picture, which 640 misses."""
BATCH = 32
"""Faces that are embedded at once."""


@dataclass
class InsightFaces:
    """A `FaceAnalyzer` by the insightface package. Its models are for non-commercial research only.
    Expressions are read by MediaPipe's network, as with the light pack.

    The detector's graph takes one picture at a time; the recogniser takes batches.
    """

    device: Device = "cpu"
    folder: Path | None = None
    """The model pack; by default where insightface keeps it."""
    threads: int = 1
    """Threads of every model when it runs on the CPU."""
    min_score: float = 0.5
    """Detections below are dropped, 0..1."""

    name: str = field(default="buffalo_l", init=False)
    recogniser: str = field(default="w600k_r50", init=False)

    def __post_init__(self) -> None:
        check_range(self, "min_score", above=0, under=1, option="")
        check_range(self, "threads", least=1, option="")

    def setup(self) -> None:
        """Raises UserError when a file is missing or unfit, or CUDA does not start."""
        loaded = {task: self._load(task, path) for task, path in self._files().items()}
        self._detector = loaded["detection"]
        self._detector.prepare(0, input_size=DETECTION_SIZES, det_thresh=self.min_score)
        self._landmarks = loaded["landmark_3d_68"]
        self._recogniser = loaded["recognition"]
        self._features = ExpressionReader(model_path("face-landmarker"))

    def provenance(self) -> dict[str, object]:
        """Raises UserError when a file is missing: the hashes are the files' own."""
        hashes = {task: digest(path) for task, path in self._files().items()}
        hashes["expression"] = model("face-landmarker").sha256
        return {"faces": self.name, "min_score": self.min_score} | hashes

    def find(self, images: Sequence[Image], *, quick: bool = False) -> list[list[Face]]:
        """The faces of each picture, with pose, largest first."""
        return [self._find(image) for image in images]

    def embed(self, image: Image, faces: Sequence[Face]) -> Floats:
        """(faces, 512), unit rows."""
        return self.embed_each([image] * len(faces), faces)

    def embed_each(self, images: Sequence[Image], faces: Sequence[Face]) -> Floats:
        """(faces, 512), unit rows, of one face of each picture."""
        if not faces:
            return np.zeros((0, 512), np.float32)
        pairs = zip(images, faces, strict=True)
        crops = [_bgr(align(image, face.points)) for image, face in pairs]
        most = BATCH if isinstance(self._recogniser.input_shape[0], str | None) else 1
        batches = [crops[i : i + most] for i in range(0, len(crops), most)]
        vectors = np.concatenate([self._recogniser.get_feat(batch) for batch in batches])
        unit: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    def features(self, image: Image, face: Face) -> Features | None:
        """What `datapipe.faces.landmarks` compares, of a face about frontal; None if unseen."""
        return self._features(image, face)

    def surface(self, image: Image, face: Face) -> Floats | None:
        """(478, 3): points of the skin for `datapipe.faces.landmarks.turn`."""
        return self._features.surface(image, face)

    def _find(self, image: Image) -> list[Face]:
        from insightface.app.common import Face as InsightFace

        picture = _bgr(image)
        boxes, points = self._detector.detect(picture)
        faces = []
        for row, five in zip(boxes, points, strict=True):
            found = InsightFace(bbox=row[:4], kps=five, det_score=row[4])
            self._landmarks.get(picture, found)
            left, top, right, bottom = map(float, row[:4])
            box = (left, top, right, bottom)
            mouth = _mouth(found.landmark_3d_68)
            pose = _pose(found.pose)
            faces.append(Face(box, five.astype(np.float32), float(row[4]), pose, mouth))
        return sorted(faces, key=lambda face: -face.size)

    def _files(self) -> dict[str, Path]:
        folder = (self.folder or PACK).expanduser()
        files = {task: folder / name for task, name in FILES.items()}
        if missing := [path.name for path in files.values() if not path.is_file()]:
            raise UserError(
                f"the buffalo_l model pack is not complete: {', '.join(missing)} not found in "
                f"{folder}. Download buffalo_l.zip from InsightFace's model zoo (its releases; for "
                "non-commercial research only) and unpack it there, or use the light face pack"
            )
        return files

    def _load(self, task: str, path: Path) -> Any:
        """One model, by insightface's own reading of its graph."""
        from insightface.model_zoo import get_model

        with readable(path):
            model = get_model(
                str(path),
                providers=providers(self.device),
                sess_options=options(self.threads),
                static_shape_sessions=False,  # one session for both detection sizes
            )
        if getattr(model, "taskname", None) != task:
            raise UserError(f"{path} is not buffalo_l's {path.name}: it is not a {task} model")
        check_device(model.session, self.device)
        return model


def _bgr(image: Image) -> Image:
    return np.ascontiguousarray(image[..., ::-1])


def _mouth(points: Any) -> float | None:
    """Of 68 points, the distance between the lips over the mouth's width, 0.5 when wide open."""
    gap, wide = (float(np.linalg.norm(points[a] - points[b])) for a, b in ((62, 66), (60, 64)))
    return gap / wide / 0.5 if wide > 0 and np.isfinite(gap / wide) else None


def _pose(angles: Any) -> Pose | None:
    """InsightFace's [pitch, yaw, roll] has the project's signs."""
    if not np.isfinite(angles).all():
        return None
    pitch, yaw, roll = map(float, angles)
    return Pose(yaw, pitch, roll)
