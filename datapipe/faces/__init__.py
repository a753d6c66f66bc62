"""Finding, describing and comparing faces, behind one interface with two backends."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from datapipe.errors import UserError
from datapipe.faces.base import FaceAnalyzer

FACES = Literal["light", "buffalo_l"]
"""The backends by name."""


def face_analyzer(
    name: FACES, *, device: Literal["cpu", "cuda"] = "cpu", folder: Path | None = None
) -> FaceAnalyzer:
    """A backend, not yet set up. `folder` is buffalo_l's model pack, by default insightface's.

    Raises UserError when the backend does not run on the device or takes no folder.
    """
    match name:
        case "light":
            from datapipe.faces.light import LightFaces

            if device != "cpu" or folder is not None:
                raise UserError("the light face pack runs on the CPU, from harmoview's own files")
            return LightFaces()
        case "buffalo_l":
            from datapipe.faces.insight import InsightFaces

            return InsightFaces(device=device, folder=folder)
