"""MediaPipe's 478 face landmarks without MediaPipe: its network on a square around the face."""

from __future__ import annotations

import zipfile
from pathlib import Path

import cv2
import numpy as np

from datapipe.record import Image
from lora_engine.mesh.raster import Array

SURFACE = 468  # landmarks of the skin; the last ten are the irises
OVAL = np.array(
    [
        *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
        *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
    ]
)
IRISES = (468, 473)  # centres; the four that follow each lie on its rim
NOSE_TIP, MOUTH_CORNERS = 4, (61, 291)
EYELIDS = (  # around each eye's opening, from image left
    np.array([33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7]),
    np.array([362, 398, 384, 385, 386, 387, 388, 466, 263, 249, 390, 373, 374, 380, 381, 382]),
)
FOREHEAD, CHIN, CHEEKS = 10, 152, (50, 280)
LIPS_INNER = (13, 14)  # upper, lower

SIDE = 256  # of the network's input
MARGIN = 1.5  # the square's side over the face's longer side, as in MediaPipe's graph
PRESENT = 0.5  # probability of a face below which there is none


class Landmarker:
    """Finds the landmarks of one face, given roughly where it is."""

    def __init__(self, task: Path) -> None:
        """`task` is MediaPipe's face_landmarker_v2.task, a zip of networks."""
        from ai_edge_litert.interpreter import Interpreter

        with zipfile.ZipFile(task) as files:
            self._model = files.read("face_landmarks_detector.tflite")
        self._net = Interpreter(model_content=self._model, num_threads=1)
        self._net.allocate_tensors()
        self._input = self._net.get_input_details()[0]["index"]
        self._outputs = [item["index"] for item in self._net.get_output_details()]

    def __call__(
        self,
        image: Image,
        box: tuple[float, float, float, float],
        eyes: Array,
        mirror: Array,
    ) -> Array:
        """(478, 3): x right, y up, z towards the viewer, all in pixels.

        `box` is the detector's (left, top, right, bottom), `eyes` (2, 2) from image left; `mirror`
        is the landmark on the other side of each. The first result places the square of the second,
        so that the detector's habits do not matter; each is the mean over the square and its mirror
        image. Raises ValueError when the network sees no face.
        """
        centre = np.array([box[0] + box[2], box[1] + box[3]]) / 2
        side = MARGIN * max(box[2] - box[0], box[3] - box[1])
        angle = _angle(*eyes)
        for _ in range(2):
            crop, back = _square(image, centre, side, angle)
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
        """(478, 3) in pixels of a 256 x 256 picture, y down. Raises ValueError without a face."""
        self._net.set_tensor(self._input, crop[None].astype(np.float32) / 255)
        self._net.invoke()
        points, presence, _ = (self._net.get_tensor(index).ravel() for index in self._outputs)
        if 1 / (1 + np.exp(-float(presence[0]))) < PRESENT:
            raise ValueError("no face")
        return np.array(points, float).reshape(-1, 3)


def _square(image: Image, centre: Array, side: float, angle: float) -> tuple[Image, Array]:
    """The turned square as the network wants it, and the matrix that led to it."""
    ways = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix = np.zeros((2, 3))
    matrix[:, :2] = ways * SIDE / side
    matrix[:, 2] = (SIDE - 1) / 2 - matrix[:, :2] @ centre
    crop = cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
    return crop, matrix


def _angle(left: Array, right: Array) -> float:
    """Of the line between the eyes against the picture's rows, radians."""
    x, y = np.asarray(right, float) - np.asarray(left, float)
    return float(np.arctan2(y, x))
