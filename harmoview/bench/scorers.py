"""The scorers that need nothing but the embedded models: faces, motion, picture quality."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

from datapipe.faces import FACES, face_analyzer
from datapipe.faces.base import FaceAnalyzer
from datapipe.files import Folder
from filters.aesthetic import Brisque
from harmoview.bench.faces import KnownFaces, measure, references
from harmoview.bench.identity import identity_scores
from harmoview.bench.motion import motion_scores
from harmoview.bench.run import BenchRun, VideoKey
from harmoview.bench.scores import VideoScore
from harmoview.bench.store import (
    Provenance,
    put_faces,
    put_references,
    read_faces,
    read_references,
)
from harmoview.bench.suite import Suite
from harmoview.bench.suite_json import Case
from harmoview.bench.video import sample, sample_indices

PICTURES = 8
"""Of the sampled frames, those that BRISQUE looks at."""


@dataclass(frozen=True)
class Job:
    """One video to be scored."""

    folder: Folder
    suite: Suite
    key: VideoKey
    path: Path
    about: Mapping[str, Any]
    """The JSON beside the video."""
    video_sha256: str

    @property
    def case(self) -> Case:
        return self.suite.case[self.key.case]


class Scorer(Protocol):
    """Measures a video. Small until `setup`, so that it can be sent to another process."""

    name: str
    """Names its files, and stands for its metrics."""
    metrics: tuple[str, ...]
    version: int
    """Changes when the same video would get other numbers."""

    @property
    def in_process(self) -> bool:
        """Whether it runs alone in the command's own process, as what needs a GPU does."""

    def missing(self) -> str:
        """What it lacks to run at all; empty where it lacks nothing."""

    def model_sha256(self) -> str:
        """Of all its weights; empty where it has none."""

    def versions(self) -> dict[str, str]:
        """What else its numbers depend on, for the record."""

    def setup(self) -> None:
        """Load. Raises UserError."""

    def __call__(self, job: Job) -> list[VideoScore]:
        """Raises BadSample for a video that cannot be used."""


@dataclass
class MotionScorer:
    """Optical flow."""

    name: str = "motion"
    metrics: tuple[str, ...] = ("opens2v_amp", "hv_flow", "hv_interp")
    version: int = 1
    in_process: bool = False

    def missing(self) -> str:
        return ""

    def model_sha256(self) -> str:
        return ""

    def versions(self) -> dict[str, str]:
        return {}

    def setup(self) -> None:
        import cv2

        cv2.setNumThreads(1)  # processes share the machine; results do not depend on it

    def __call__(self, job: Job) -> list[VideoScore]:
        return motion_scores(job.path)


@dataclass
class QualityScorer:
    """BRISQUE of some frames."""

    name: str = "quality"
    metrics: tuple[str, ...] = ("hv_brisque",)
    version: int = 1
    in_process: bool = False

    def missing(self) -> str:
        return ""

    def model_sha256(self) -> str:
        return digest_of(Brisque().provenance())

    def versions(self) -> dict[str, str]:
        return {}

    def setup(self) -> None:
        self._brisque = Brisque()
        self._brisque.setup()

    def __call__(self, job: Job) -> list[VideoScore]:
        looked = sample(job.path)
        places = sorted(sample_indices(len(looked), PICTURES))
        found = self._brisque([looked[place].image for place in places])
        values = [value for value in found if value is not None]
        mean = sum(values) / len(values) if values else None
        reason = "" if values else "no frame has texture"
        return [VideoScore("hv_brisque", mean, len(places), len(values), reason=reason)]


@dataclass
class FaceScorer:
    """Everything about the people of a video; the faces themselves are kept beside the scores."""

    backend: FACES = "light"
    device: Literal["cpu", "cuda"] = "cpu"
    pack: Path | None = None
    """buffalo_l's folder."""
    name: str = field(default="faces", init=False)
    metrics: tuple[str, ...] = field(
        default=(
            *("hv_missing", "hv_extra_people", "hv_assign_margin", "hv_ambiguous", "hv_swapped"),
            *("hv_detected", "hv_face_front", "hv_face_view", "hv_face_std", "hv_exposure"),
            *("hv_view_match", "hv_yaw_span", "hv_yaw_reached", "hv_rank1", "hv_crosstalk"),
            "hv_sharpness",
        ),
        init=False,
    )
    version: int = field(default=2, init=False)
    measured: int = field(default=2, init=False)
    """Version of the faces themselves: where it stays, new figures need no model."""

    @property
    def in_process(self) -> bool:
        return self.device == "cuda"

    @cached_property
    def _faces(self) -> FaceAnalyzer:
        return face_analyzer(self.backend, device=self.device, folder=self.pack)

    def __getstate__(self) -> dict[str, Any]:
        return {"backend": self.backend, "device": self.device, "pack": self.pack}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def missing(self) -> str:
        return ""

    def model_sha256(self) -> str:
        return digest_of(self._faces.provenance())

    def versions(self) -> dict[str, str]:
        return {"faces": self.backend}

    def setup(self) -> None:
        self._faces.setup()
        self._known: KnownFaces | None = None

    def prepare(self, run: BenchRun) -> None:
        """Embed the suite's references once for all processes. `setup` was called."""
        self._known = self._references(run.folder, run.suite)

    def __call__(self, job: Job) -> list[VideoScore]:
        known = self._known or self._references(job.folder, job.suite)
        self._known = known
        made_by = Provenance("faces", self.measured, self.model_sha256(), job.video_sha256)
        found = read_faces(job.folder, job.key, made_by, known)
        if found is None:
            found = measure(job.path, self._faces, known, job.about.get("truth"))
            put_faces(job.folder, job.key, made_by, found)
        return identity_scores(found, known, job.case)

    def _references(self, folder: Folder, suite: Suite) -> KnownFaces:
        key = f"{suite.sha256}/{self.measured}/{self.model_sha256()}"
        known = read_references(folder, self.backend, key)
        if known is None:
            known = references(suite, self._faces)
            put_references(folder, self.backend, key, known)
        return known


def digest_of(provenance: Mapping[str, object]) -> str:
    """One hash for everything that a model's provenance names."""
    text = json.dumps(provenance, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def embedded(
    backend: FACES = "light", device: Literal["cpu", "cuda"] = "cpu", pack: Path | None = None
) -> Sequence[Scorer]:
    """The scorers behind the `hv_` columns and `opens2v_amp`."""
    return [FaceScorer(backend, device, pack), MotionScorer(), QualityScorer()]
