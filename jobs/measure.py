"""Measures a few views against their reference, for pictures that people look at."""

from __future__ import annotations

from collections.abc import Sequence

from datapipe.faces.base import FaceAnalyzer
from datapipe.record import Image
from lora_engine.views import Measured


def measure_views(faces: FaceAnalyzer, reference: Image, views: Sequence[Image]) -> list[Measured]:
    """Yaw and identity cosine of each view's largest face; `faces` has been set up."""
    (shown, *found) = faces.find([reference, *views])
    anchor = faces.embed(reference, shown[:1]) if shown else None
    measured = []
    for view, people in zip(views, found, strict=True):
        if not people:
            measured.append(Measured(None, None))
            continue
        pose = people[0].pose
        cosine = None
        if anchor is not None:
            cosine = float(anchor[0] @ faces.embed(view, people[:1])[0])
        measured.append(Measured(None if pose is None else pose.yaw, cosine))
    return measured
