"""The 478 landmarks of a face, found by MediaPipe's network without MediaPipe itself."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

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

    def square(self, crop: Image) -> Array:
        """Find the landmarks (478, 3) in a picture of 256 x 256 pixels, y down.

        Raises ValueError when the network sees no face.
        """
        self._net.set_tensor(self._input, crop[None].astype(np.float32) / 255)
        self._net.invoke()
        points, presence, _ = (self._net.get_tensor(index).ravel() for index in self._outputs)
        if 1 / (1 + np.exp(-float(presence[0]))) < PRESENT:
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
