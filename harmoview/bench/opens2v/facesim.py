"""`opens2v_facesim_cur`: CurricularFace's cosine of the largest face to the reference.

For two people, whom OpenS2V-Eval does not score, the faces of each frame are given to them so that
the cosines' sum is largest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment

from datapipe.errors import UserError
from datapipe.faces.crops import TEMPLATE, similarity
from datapipe.faces.onnx import options, providers, readable
from datapipe.record import Image
from harmoview.bench.opens2v.curricular import SIDE, load_backbone

Floats = npt.NDArray[np.float32]

DETECTED_AT = (320, 320)
"""Pixels to which the detector scales a frame."""
GREY = (128, 128, 128)
CROP = 224
"""Pixels of the first crop, which is halved for the recogniser."""
PAD = 0.25
"""Of each side, the border with which a frame without a face is looked at again."""


class FaceSim:
    """Detector and recogniser."""

    def __init__(self, backbone: Path, detector: Path, device: str) -> None:
        """Raises UserError where a file is not the network it should be."""
        from insightface.model_zoo import get_model

        self._device = torch.device(device)
        self._backbone = load_backbone(backbone).to(self._device)
        kind: Any = "cuda" if self._device.type == "cuda" else "cpu"
        with readable(detector):
            self._detector: Any = get_model(
                str(detector),
                providers=providers(kind),
                sess_options=options(),
                static_shape_sessions=False,
            )
        if getattr(self._detector, "taskname", None) != "detection":
            raise UserError(f"{detector} is no face detector of InsightFace")
        self._detector.prepare(0, input_size=DETECTED_AT, det_thresh=0.5)

    def faces(self, image: Image) -> Floats:
        """(faces, dimensions), unit, the largest first; of a padded copy where there is none."""
        bgr = np.ascontiguousarray(image[..., ::-1])
        points = self._points(bgr)
        if not len(points):
            high, wide = bgr.shape[:2]
            top, left = int(high * PAD), int(wide * PAD)
            border = cv2.copyMakeBorder(bgr, top, top, left, left, cv2.BORDER_CONSTANT, value=GREY)
            points = self._points(border) - np.array([left, top], np.float32)
        return np.stack([self._embed(bgr, five) for five in points]) if len(points) else _none()

    def _points(self, bgr: Image) -> Floats:
        """(faces, 5, 2) pixels, the largest face first."""
        boxes, points = self._detector.detect(bgr)
        if not len(boxes):
            return np.zeros((0, 5, 2), np.float32)
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        return np.asarray(points[np.argsort(-areas, kind="stable")], np.float32)

    @torch.no_grad()
    def _embed(self, bgr: Image, points: Floats) -> Floats:
        matrix = similarity(points, TEMPLATE * (CROP / SIDE))
        crop = cv2.cvtColor(cv2.warpAffine(bgr, matrix, (CROP, CROP)), cv2.COLOR_BGR2RGB)
        small = cv2.resize(crop, (SIDE, SIDE)).transpose(2, 0, 1)[None]
        pixels = torch.from_numpy(np.ascontiguousarray(small)).float().to(self._device)
        vector = self._backbone(pixels.div_(255).sub_(0.5).div_(0.5))[0].cpu().numpy()
        return np.asarray(vector / np.linalg.norm(vector), np.float32)


def _none() -> Floats:
    return np.zeros((0, 1), np.float32)


def facesim(frames: Sequence[Floats], references: Sequence[Floats]) -> list[tuple[float, int]]:
    """By person, the mean cosine and the frames behind it.

    Negative cosines count as 0, zeros leave the mean, and a person who is never there has 0.
    `frames` are the faces of each frame, the largest first, `references` one vector a person.
    """
    found: list[list[float]] = [[] for _ in references]
    for faces in frames:
        if not len(faces):
            continue
        if len(references) == 1:
            found[0].append(max(0.0, float(faces[0] @ references[0])))
            continue
        cosines = np.maximum(0, faces @ np.stack(references).T)
        for face, person in zip(*linear_sum_assignment(-cosines), strict=True):
            found[person].append(float(cosines[face, person]))
    kept = [[value for value in values if value != 0] for values in found]
    return [(float(np.mean(values)) if values else 0.0, len(values)) for values in kept]
