"""The 478 landmarks of a face, by MediaPipe's network without MediaPipe, and what the face does.

Its expression is how far mouth, eyes, gaze and brows are from rest. The landmarks say how far lips
and lids are open, MediaPipe's blend-shape network the rest. People at rest differ, so each face is
compared with the calmest of the same person, but only within what faces at rest show at all: nobody
who talks through a whole clip is at rest.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from datapipe.faces.base import Face, Features, Floats
from datapipe.record import Image

Array = NDArray[Any]

SURFACE = 468
"""Landmarks of the skin come first; the last ten are the irises."""
IRISES = (468, 473)
"""Their centres; the four landmarks that follow each lie on its rim."""
NOSE_TIP, MOUTH_CORNERS = 4, (61, 291)
EYELIDS = (
    np.array([33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7]),
    np.array([362, 398, 384, 385, 386, 387, 388, 466, 263, 249, 390, 373, 374, 380, 381, 382]),
)
"""Around the opening of each eye, from image left."""
LIPS_INNER = (13, 14)
"""Upper, lower."""

SIDE = 256
"""Side of the network's input, pixels."""
MARGIN = 1.5
"""The square's side over the face's longer side, as in MediaPipe's graph."""
PRESENT = 0.5
"""Probability below which the network sees no face."""


def load_network(task: Path, name: str) -> Any:
    """A network of MediaPipe's face_landmarker_v2.task, a zip of networks, ready to run."""
    from ai_edge_litert.interpreter import Interpreter

    with zipfile.ZipFile(task) as files:
        model = files.read(name)
    with _silent():
        network = Interpreter(model_content=model, num_threads=1)
        network.allocate_tensors()
    return network


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing reaches stderr: LiteRT tells there what it runs on, and has no switch for it."""
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


class Landmarker:
    """Finds the landmarks of one face, given roughly where it is."""

    def __init__(self, task: Path) -> None:
        """Loads the network from MediaPipe's face_landmarker_v2.task, a zip of networks."""
        self._net = load_network(task, "face_landmarks_detector.tflite")
        self._input = self._net.get_input_details()[0]["index"]
        self._outputs = [item["index"] for item in self._net.get_output_details()]

    def __call__(
        self,
        image: Image,
        box: tuple[float, float, float, float],
        eyes: Array,
        mirror: Array,
    ) -> Array:
        """Find the landmarks (478, 3): x right, y up, z towards the viewer, all in pixels.

        `box` is the detector's (left, top, right, bottom), `eyes` (2, 2) from image left; `mirror`
        names the landmark on the other side of each. The network looks twice, and its first answer
        places the second square, so that the habits of the detector do not matter; each answer is
        the mean over the square and its mirror image. Raises ValueError when it sees no face.
        """
        centre, side, angle = place(box, eyes)
        for _ in range(2):
            crop, back = turned(image, centre, side, angle)
            points = self.square(crop)
            other = self.square(np.ascontiguousarray(crop[:, ::-1]))[mirror]
            other[:, 0] = SIDE - 1 - other[:, 0]
            points = (points + other) / 2
            flat = (points[:, :2] - back[:, 2]) @ np.linalg.inv(back[:, :2]).T
            low, high = flat[:SURFACE].min(axis=0), flat[:SURFACE].max(axis=0)
            depth = -points[:, 2] * side / SIDE
            centre, side = (low + high) / 2, MARGIN * float((high - low).max())
            angle = _angle(*flat[list(IRISES)])
        return np.column_stack([flat * [1, -1], depth])

    def square(self, crop: Image, least: float = PRESENT) -> Array:
        """Find the landmarks (478, 3) in a picture of 256 x 256 pixels, y down.

        Raises ValueError when the network sees no face, with a probability under `least`.
        """
        self._net.set_tensor(self._input, crop[None].astype(np.float32) / 255)
        self._net.invoke()
        points, presence, _ = (self._net.get_tensor(index).ravel() for index in self._outputs)
        if 1 / (1 + np.exp(-float(presence[0]))) < least:
            raise ValueError("no face")
        return np.array(points, float).reshape(-1, 3)


def place(box: tuple[float, float, float, float], eyes: Array) -> tuple[Array, float, float]:
    """Centre, side and angle of the square around a detector's box, level with the eyes (2, 2)."""
    centre = np.array([box[0] + box[2], box[1] + box[3]]) / 2
    side = MARGIN * max(box[2] - box[0], box[3] - box[1])
    return centre, side, _angle(*eyes)


def turned(image: Image, centre: Array, side: float, angle: float) -> tuple[Image, Array]:
    """Cut the turned square that the network wants, and give the matrix that led to it."""
    ways = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix = np.zeros((2, 3))
    matrix[:, :2] = ways * SIDE / side
    matrix[:, 2] = (SIDE - 1) / 2 - matrix[:, :2] @ centre
    crop = cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
    return crop, matrix


def _angle(left: Array, right: Array) -> float:
    """Return the angle of the line between the eyes against the picture's rows, radians."""
    x, y = np.asarray(right, float) - np.asarray(left, float)
    return float(np.arctan2(y, x))


# fmt: off
INPUTS = np.array([
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66,
    67, 70, 78, 80, 81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144,
    145, 146, 148, 149, 150, 152, 153, 154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173,
    176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251, 263, 267, 269, 270, 276, 282, 283, 284,
    285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318, 321, 323, 324, 332,
    334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386,
    387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466, 468, 469, 470, 471, 472, 473,
    474, 475, 476, 477,
])
# fmt: on
"""The landmarks that the blend-shape network looks at (MediaPipe, `kLandmarksSubsetIdxs`)."""
Shapes = Mapping[str, tuple[tuple[int, ...], float]]
"""Blend shapes by MediaPipe's names, without Left and Right: their places among the network's 52
outputs, and the most that faces at rest show of them (nine studio portraits, mesh heads)."""
MOUTH: Shapes = {
    "jawOpen": ((25,), 0.1),
    "jaw": ((24, 26), 0.1),
    "mouth": ((33, 39), 0.1),
    "mouthSmile": ((44, 45), 0.2),
    "mouthFrown": ((30, 31), 0.1),
    "mouthStretch": ((46, 47), 0.1),
    "mouthDimple": ((28, 29), 0.15),
    "mouthPress": ((36, 37), 0.25),
    "mouthLowerDown": ((34, 35), 0.1),
    "mouthUpperUp": ((48, 49), 0.1),
    "mouthRollLower": ((40,), 0.25),
    "mouthRollUpper": ((41,), 0.15),
    "mouthFunnel": ((32,), 0.1),
    "mouthPucker": ((38,), 0.1),
    "cheekPuff": ((6,), 0.1),
    "noseSneer": ((50, 51), 0.1),
}
"""Without mouthShrug and mouthClose, which beards and full lips set off."""
EYES: Shapes = {"eyeBlink": ((9, 10), 0.2), "eyeWide": ((21, 22), 0.1)}
GAZE: Shapes = {
    "eyeLookDown": ((11, 12), 0.5),
    "eyeLookUp": ((17, 18), 0.2),
    "eyeLookIn": ((13, 14), 0.5),
    "eyeLookOut": ((15, 16), 0.5),
}
"""Wide limits: eyes that look at the camera are turned where the head is turned away from it."""
BROWS: Shapes = {
    "browDown": ((1, 2), 0.75),
    "browInnerUp": ((3,), 0.1),
    "browOuterUp": ((4, 5), 0.3),
}
WEIGHTS = {"mouth": 1.0, "eyes": 0.9, "gaze": 0.6, "brows": 0.7}
"""The expression of a face of which one part alone is wholly away from rest."""
CALM = 30
"""Percentile of a person's faces that counts as their rest."""
NOISE, SPAN = 0.08, 0.5
"""A blend shape counts from so far above rest, and in full so much farther."""
SHUT, AGAPE = 0.03, 0.18
"""Distance between the lips over the mouth's width: shut up to the one, open from the other."""
WIDTH, BROAD = (0.56, 0.605), (0.04, 0.24)
"""The width of mouths at rest, between people, in distances of the outer corners of the eyes; and
the share by which a mouth is wider: still at rest, and smiling in full."""
LIDS, OPEN = (0.22, 0.32), 85
"""Height over width of eyes that are open, between people; and the percentile of a person's."""
BLINK = 0.05, 0.45
"""Share by which the lids are lower than open: none, and shut."""


class ExpressionReader:
    """Reads the features of faces; 14 ms a face on one core."""

    def __init__(self, task: Path) -> None:
        """Loads two networks of MediaPipe's face_landmarker_v2.task, a zip of networks."""
        self._landmarks = Landmarker(task)
        self._net = load_network(task, "face_blendshapes.tflite")
        self._input = self._net.get_input_details()[0]["index"]
        self._output = self._net.get_output_details()[0]["index"]

    def __call__(self, image: Image, face: Face) -> Features | None:
        """The features of a face that looks about at the camera; None where none is seen there."""
        crop, _ = turned(image, *place(face.box, face.points[:2]))
        try:
            points = self._landmarks.square(crop)[:, :2]
        except ValueError:
            return None
        self._net.set_tensor(self._input, points[INPUTS][None].astype(np.float32))
        self._net.invoke()
        shapes = np.array(self._net.get_tensor(self._output), np.float32).ravel()
        wide = _distance(points, *MOUTH_CORNERS)
        apart = _distance(points, EYELIDS[0][0], EYELIDS[1][8])
        lids = min(_open(points[lid]) for lid in EYELIDS)
        return Features(_distance(points, *LIPS_INNER) / wide, wide / apart, lids, shapes)

    def surface(self, image: Image, face: Face) -> Floats:
        """(478, 3): the landmarks about their middle, x right, y down, z away from the viewer.

        Of a head at 60 degrees the network says that it sees no face, and still places it well.
        """
        centre, side, _ = place(face.box, face.points[:2])
        crop, _ = turned(image, centre, side, 0.0)
        points = self._landmarks.square(crop, 0.0)
        centred: Floats = (points - points.mean(axis=0)).astype(np.float32)
        return centred


def turn(front: Floats, here: Floats) -> float:
    """Yaw in degrees from one surface of a face, (n, 3), to another; > 0: to image right.

    It is that of the scaled orthographic camera which takes the first one's points to the second's
    in the picture, with the least error. So depth counts only where it is seen best, in front.
    """
    camera = np.linalg.lstsq(front, here[:, :2], rcond=None)[0].T
    right, down = camera / np.maximum(np.linalg.norm(camera, axis=1, keepdims=True), 1e-9)
    u, _, v = np.linalg.svd(np.stack([right, down, np.cross(right, down)]))
    nearest = u @ v
    return float(np.degrees(np.arctan2(nearest[2, 0], np.hypot(nearest[0, 0], nearest[1, 0]))))


def _distance(points: Array, one: int, other: int) -> float:
    return max(1e-6, float(np.linalg.norm(points[one] - points[other])))


def _open(lids: Array) -> float:
    """Height over width of an eye, by two points on each lid."""
    heights = _distance(lids, 3, 13) + _distance(lids, 5, 11)
    return heights / 2 / _distance(lids, 0, 8)


def expressions(faces: Sequence[Features]) -> list[float]:
    """How far each face of one person is from rest: 0 neutral … 1.

    It is 1 minus the product of what mouth, eyes, gaze and brows each leave. With one face alone
    the person's own rest is unknown, and that face gets the benefit of the doubt.
    """
    if not faces:
        return []
    shapes = np.stack([face.shapes for face in faces])
    lips, width, lids = (
        np.array([getattr(face, name) for face in faces]) for name in ("lips", "width", "lids")
    )
    smile = width / np.clip(_percentile(width, CALM), *WIDTH) - 1
    closed = 1 - lids / np.clip(-_percentile(-lids, 100 - OPEN), *LIDS)
    parts = {
        "mouth": np.maximum.reduce(
            [_share(lips, SHUT, AGAPE), _share(smile, *BROAD), _excess(shapes, MOUTH)]
        ),
        "eyes": np.maximum(_share(closed, *BLINK), _excess(shapes, EYES)),
        "gaze": _excess(shapes, GAZE),
        "brows": _excess(shapes, BROWS),
    }
    rest = np.prod([1 - WEIGHTS[name] * part for name, part in parts.items()], axis=0)
    return [float(value) for value in 1 - rest]


def _excess(shapes: Array, kinds: Shapes) -> Array:
    """Of each face, the blend shape that is farthest above rest, as a share 0..1."""
    found = []
    for places, most in kinds.values():
        values = shapes[:, places]
        rest = np.minimum([_percentile(column, CALM) for column in values.T], most)
        found.append(_share(values - rest, NOISE, NOISE + SPAN).max(axis=1))
    return np.asarray(np.max(found, axis=0))


def _share(values: Array, low: float, high: float) -> Array:
    return np.asarray(np.clip((values - low) / (high - low), 0, 1))


def _percentile(values: Array, percent: float) -> float:
    """One of the values, so that a single one is its own."""
    return float(np.percentile(values, percent, method="lower"))
