"""The options that choose the face models, for every command that looks at faces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datapipe.faces.base import FaceAnalyzer
from datapipe.faces.load import FACES, face_analyzer


@dataclass(frozen=True)
class FaceSettings:
    """Which face models find, describe and compare faces."""

    faces: FACES = "light"
    """light: YuNet, SFace and 3DDFA on the CPU; buffalo_l: InsightFace's, non-commercial."""
    faces_folder: Path | None = None
    """buffalo_l's model pack; the default is ~/.insightface/models/buffalo_l."""

    def load(self, device: Literal["cpu", "cuda"] = "cpu") -> FaceAnalyzer:
        """The models, not yet set up; the light ones work on the CPU. Raises UserError."""
        where: Literal["cpu", "cuda"] = "cpu" if self.faces == "light" else device
        return face_analyzer(self.faces, device=where, folder=self.faces_folder)
