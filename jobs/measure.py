"""Measures a few views against their reference, for pictures that people look at."""

from __future__ import annotations

from collections.abc import Sequence

from datapipe.faces.base import FaceAnalyzer
from datapipe.record import Image
from filters.score import subject
from lora_engine.views import Measured


def measure_views(faces: FaceAnalyzer, reference: Image, views: Sequence[Image]) -> list[Measured]:
    """Yaw and identity cosine of each view, on the face that the line would score.

    `faces` has been set up.
    """
    pictures = [reference, *views]
    found = [subject(*pair) for pair in zip(pictures, faces.find(pictures), strict=True)]
    vectors = [
        None if face is None else faces.embed(picture, [face])[0]
        for picture, face in zip(pictures, found, strict=True)
    ]
    anchor = vectors[0]
    return [
        Measured(
            None if face is None or face.pose is None else face.pose.yaw,
            None if anchor is None or vector is None else float(anchor @ vector),
        )
        for face, vector in zip(found[1:], vectors[1:], strict=True)
    ]
