"""The light face pack for CPUs: YuNet finds, SFace recognises, 3DDFA_V2 measures the head pose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from datapipe.errors import check_range
from datapipe.faces.base import Face, Features, Floats
from datapipe.faces.crops import align, box_window, warp
from datapipe.faces.landmarks import ExpressionReader
from datapipe.faces.onnx import session
from datapipe.models import model, model_path
from datapipe.record import Image, Pose

JAW, WIDE_OPEN = 52, 1.5
"""Which of 3DDFA's 62 outputs is the first expression, and by how much a wide open mouth lowers it:
it goes with the distance between the lips, correlation -0.9 to -0.98 in each of six people."""
BATCH = 32
"""Faces that go through a network at once."""


@dataclass
class LightFaces:
    """A `FaceAnalyzer` of 28 MB of models that runs on one core.

    Trust its yaw to about 5 degrees (it over-reads by 5 to 9 at 60 to 75), its pitch and roll up
    to 60 degrees of yaw (at 90 they mean nothing, and yaw folds back), and its identity cosine up
    to 60; beyond, same and different people overlap.
    """

    threads: int = 1
    """Threads of every model; results do not depend on it."""
    min_score: float = 0.6
    """Detections below are dropped, 0..1."""
    smallest: int = 40
    """Faces of this side (pixels) and larger are found, up to pictures of 4K."""

    name: str = field(default="light", init=False)
    recogniser: str = field(default="sface", init=False)

    def __post_init__(self) -> None:
        check_range(self, "min_score", above=0, under=1, option="")
        check_range(self, "threads", "smallest", least=1, option="")

    def setup(self) -> None:
        """Raises UserError when a model file is missing."""
        files = [model_path(name) for name in ("yunet", "sface", "3ddfa", "3ddfa-statistics")]
        cv2.setNumThreads(self.threads)
        self._detector = _quiet_detector(str(files[0]), self.min_score)
        self._recogniser = session(_any_batch(files[1].read_bytes(), "data"), threads=self.threads)
        self._poser = session(_any_batch(files[2].read_bytes(), "input"), threads=self.threads)
        with np.load(files[3]) as statistics:
            self._mean, self._std = statistics["mean"], statistics["std"]
        self._features = ExpressionReader(model_path("face-landmarker"))

    def provenance(self) -> dict[str, object]:
        """Settings that matter, and model files by SHA-256."""
        names = {"detector": "yunet", "recogniser": "sface", "pose": "3ddfa"}
        names["expression"] = "face-landmarker"
        hashes = {role: model(name).sha256 for role, name in names.items()}
        return {"faces": self.name, "min_score": self.min_score, "smallest": self.smallest} | hashes

    def find(self, images: Sequence[Image], *, quick: bool = False) -> list[list[Face]]:
        """The faces of each picture, with pose, largest first.

        The pose is the mean of two looks; with `quick`, one, some 1 degree off.
        """
        found = [self._detect(image) for image in images]
        crops = [
            warp(image, box_window(box, 120, grow=1.58, drop=0.14), 120)
            for image, rows in zip(images, found, strict=True)
            for box, _, _ in rows
        ]
        heads = iter(self._heads(crops, mirrored=not quick))
        faces = [[Face(*row, *next(heads)) for row in rows] for rows in found]
        return [sorted(some, key=lambda face: -face.size) for some in faces]

    def embed(self, image: Image, faces: Sequence[Face]) -> Floats:
        """(faces, 128), unit rows."""
        return self.embed_each([image] * len(faces), faces)

    def embed_each(self, images: Sequence[Image], faces: Sequence[Face]) -> Floats:
        """(faces, 128), unit rows, of one face of each picture."""
        if not faces:
            return np.zeros((0, 128), np.float32)
        # SFace takes raw RGB 0..255.
        pairs = zip(images, faces, strict=True)
        crops = np.stack([align(image, face.points) for image, face in pairs])
        vectors = _run(self._recogniser, crops.astype(np.float32))
        unit: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    def features(self, image: Image, face: Face) -> Features | None:
        """What `datapipe.faces.landmarks` compares, of a face about frontal; None if unseen."""
        return self._features(image, face)

    def surface(self, image: Image, face: Face) -> Floats | None:
        """(478, 3): points of the skin for `datapipe.faces.landmarks.turn`."""
        return self._features.surface(image, face)

    def _detect(
        self, image: Image
    ) -> list[tuple[tuple[float, float, float, float], Floats, float]]:
        """Box, points and score of each face, in the picture's own pixels."""
        height, width = image.shape[:2]
        scale = detection_scale(max(height, width), self.smallest)
        if scale < 1:
            size = max(1, round(width * scale)), max(1, round(height * scale))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        self._detector.setInputSize((image.shape[1], image.shape[0]))
        _, rows = self._detector.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        back = np.array([width / image.shape[1], height / image.shape[0]], np.float32)
        found = []
        for row in [] if rows is None else rows:
            (left, top), (wide, high) = row[0:2] * back, row[2:4] * back
            box = (float(left), float(top), float(left + wide), float(top + high))
            found.append((box, row[4:14].reshape(5, 2) * back, float(row[14])))
        return found

    def _heads(self, crops: Sequence[Image], *, mirrored: bool) -> list[tuple[Pose, float]]:
        """Pose and mouth of each: the latter is 3DDFA's first expression, which opens the jaw."""
        if not crops:
            return []
        # Each crop with its mirror image: the average has no preference for a side.
        both = np.stack([*crops, *(crop[:, ::-1] for crop in crops if mirrored)])
        bgr = (both[..., ::-1].astype(np.float32) - 127.5) / 128
        found = _run(self._poser, bgr)
        cameras = (found * self._std + self._mean)[:, :12].reshape(-1, 3, 4)
        looks = 2 if mirrored else 1
        mouths = -found[:, JAW].reshape(looks, -1).mean(axis=0) / WIDE_OPEN
        rotations = np.stack([_rotation(camera) for camera in cameras])
        mirror = np.diag([-1.0, 1.0, 1.0])
        straight, *others = np.split(rotations, looks)
        poses = [_pose(s) for s in straight + sum(mirror @ other @ mirror for other in others)]
        return list(zip(poses, map(float, mouths), strict=True))


def detection_scale(side: int, smallest: int) -> float:
    """How much a picture with that long side is shrunk before detection, at most 1.

    YuNet finds all faces of 14 pixels and larger, most of 11, hardly any of 8; and it cuts or
    misses those over some 500. So the copy keeps a face of `smallest` at 14 pixels, within 640
    and 1280 of long side: 12 to 50 ms on one core.
    """
    return min(1.0, max(14 / smallest, 640 / side), 1280 / side)


def _rotation(camera: NDArray[Any]) -> NDArray[np.float64]:
    """The rotation of a scaled orthographic camera (3, 4); x right, y up, z to the viewer."""
    right = camera[0, :3] / np.linalg.norm(camera[0, :3])
    up = camera[1, :3] / np.linalg.norm(camera[1, :3])
    return np.stack([right, up, np.cross(right, up)]).astype(np.float64)


def _pose(rotation: NDArray[np.float64]) -> Pose:
    """Of the rotation nearest to a matrix; 3DDFA's y points up, so pitch and roll change sign."""
    u, _, v = np.linalg.svd(rotation)
    r = u @ np.diag([1, 1, np.linalg.det(u @ v)]) @ v
    yaw = np.arctan2(-r[2, 0], np.hypot(r[0, 0], r[1, 0]))
    pitch, roll = -np.arctan2(r[2, 1], r[2, 2]), -np.arctan2(r[1, 0], r[0, 0])
    return Pose(*(float(np.degrees(angle)) for angle in (yaw, pitch, roll)))


def _run(net: Any, pictures: NDArray[Any]) -> Floats:
    """The only output for pictures (n, height, width, 3), a bounded batch at a time."""
    name = net.get_inputs()[0].name
    planes = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))
    parts = [planes[i : i + BATCH] for i in range(0, len(planes), BATCH)]
    return np.concatenate([net.run(None, {name: part})[0] for part in parts]).astype(np.float32)


def _any_batch(data: bytes, name: str) -> bytes:
    """The network with one input, of any batch size.

    SFace's file lists its weights as inputs as well, which ONNX Runtime refuses, and keeps them in
    8 bits, which it would unpack at every call: a third of its time.
    """
    import onnx
    from onnx.reference import ReferenceEvaluator

    network = onnx.load_from_string(data)
    graph = network.graph
    stored = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "DequantizeLinear"]:
        (weight,) = ReferenceEvaluator(node).run(None, {item: stored[item] for item in node.input})
        graph.initializer.append(onnx.numpy_helper.from_array(weight, node.output[0]))
        graph.node.remove(node)
    used = {item for node in graph.node for item in node.input}
    inputs = [item for item in graph.input if item.name == name]
    weights = [item for item in graph.initializer if item.name in used]
    del graph.input[:], graph.initializer[:], graph.value_info[:]
    graph.input.extend(inputs)
    graph.initializer.extend(weights)
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return bytes(network.SerializeToString())


def _quiet_detector(path: str, min_score: float) -> Any:
    logging = cv2.utils.logging
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_ERROR)  # OpenCV 5 warns about a default it sets itself
    try:
        return cv2.FaceDetectorYN.create(path, "", (320, 320), min_score, 0.3, 5000)
    finally:
        logging.setLogLevel(level)
