"""The one record that flows through the line: a sample, its identities, their views.

Angles are degrees. Yaw > 0: the nose points to image right. Pitch > 0: the face looks up.
Roll > 0: the head tilts towards image right. Boxes are (left, top, right, bottom) in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""RGB, (height, width, 3)."""

Outcome = Literal["candidate", "rejected", "error"]

Transfer = Literal["sdr", "pq", "hlg"]
"""How a video's numbers mean light: by a display's gamma, SMPTE ST 2084, ARIB STD-B67."""

YAWS = (-90, -60, -30, 0, 30, 60, 90)
"""The default yaws of the seven views; the paper's own list is not public."""


@dataclass(frozen=True, slots=True)
class Pose:
    """Head angles in degrees, in the project's convention (see the module)."""

    yaw: float
    pitch: float
    roll: float


@dataclass(frozen=True, slots=True)
class Source:
    """Where a video's bytes are: a file, or a byte range of a tar."""

    path: str
    """Local path or fsspec URL of the video, or of the tar that holds it."""
    suffix: str
    """The video's own extension, lower case, with the dot."""
    member: str | None = None
    offset: int = 0
    size: int | None = None

    def __str__(self) -> str:
        """The path, or fsspec's chained URL for a member of a tar."""
        return self.path if self.member is None else f"tar://{self.member}::{self.path}"


@dataclass(frozen=True, slots=True)
class Reference:
    """The frontal portrait of an identity: which frame it is, and where it was cut."""

    timestamp: float
    """Seconds from the first frame that the video shows to this one."""
    frame: int
    """Its number in the order of display."""
    box: tuple[float, float, float, float]
    """The face, in pixels of the full-size frame."""
    crop: tuple[int, int, int, int]
    """The square that was cut, in pixels of the full-size frame."""
    pose: Pose
    score: float
    """The detector's confidence, 0..1."""
    sharpness: float
    """`datapipe.faces.crops` of the face."""
    seen: int
    """Probed frames in which this identity was found."""
    transfer: Transfer = "sdr"
    """Of the video; the picture is SDR in any case."""
    deinterlaced: bool = False
    """Whether the frame was made whole from two fields of different moments."""
    expression: float | None = None
    """How far mouth, eyes and brows are from rest, 0 neutral … 1; see `datapipe.faces.landmarks`.
    """


@dataclass(frozen=True, slots=True)
class Scores:
    """What was measured on one picture; None where it could not be measured."""

    detected: bool
    sharpness: float | None = None
    sharpness_ratio: float | None = None
    """Sharpness over that of the reference."""
    aesthetic: float | None = None
    identity_cosine: float | None = None
    """To the reference, -1..1."""
    measured_yaw: float | None = None
    measured_pitch: float | None = None
    measured_roll: float | None = None
    face_size: float | None = None
    """Mean side of the detected face box, pixels."""
    expression: float | None = None
    """Of a reference, as Prepare measured it in the clip: 0 neutral … 1."""


ViewSource = Literal["synthesised", "real"]
"""Whether an engine made a view, or a frame of the video shows it."""


@dataclass(frozen=True, slots=True)
class Cutout:
    """Which frame of the video a real view is, and where it was cut."""

    frame: int
    """Its number in the order of display."""
    shot: int
    """The shot's number in the video, from 0."""
    box: tuple[float, float, float, float]
    """The face, in pixels of the full-size frame."""
    crop: tuple[int, int, int, int]
    """The square that was cut, in pixels of the full-size frame."""
    pose: Pose
    score: float
    """The detector's confidence, 0..1."""
    sharpness: float
    """`datapipe.faces.crops` of the face."""
    cosine: float
    """The best to the person's mean embedding and to the real views nearer to the front."""


@dataclass(frozen=True, slots=True)
class View:
    """One picture of an identity at a yaw."""

    yaw: int
    """Degrees asked for."""
    seed: int | None
    """Of a synthesised view."""
    scores: Scores | None = None
    source: ViewSource = "synthesised"
    timestamp: float | None = None
    """Of a real view: seconds from the first frame that the video shows to this one."""
    attempt: int = 1
    """Which of the engine's attempts it is."""
    cutout: Cutout | None = None
    """Of a real view; None where that is the reference, and of a synthesised view."""
    twin_cosine: float | None = None
    """To the identity's view of the other source at the same yaw, -1..1; None where there is none,
    or no face was found in one of the two."""


@dataclass(frozen=True, slots=True)
class Window:
    """A span of a video, within one shot, in which an identity is seen."""

    start: float
    """Seconds from the first frame that the video shows."""
    end: float
    """Exclusive: when the next frame appears."""
    shot: int
    """Its number in the video, from 0."""
    frames_seen: int
    """Sampled frames in which the face was found."""
    face_size: float
    """Median of the face box's mean side, in pixels of the full-size frame."""
    face_min: float
    """The smallest."""
    left: float
    """Of the box around all boxes of the face, in pixels of the full-size frame."""
    top: float
    right: float
    bottom: float
    yaw_low: float
    """5th percentile of the measured yaw, degrees."""
    yaw_median: float
    yaw_high: float
    """95th percentile."""
    motion: float
    """Median speed of the face, in sides of its box a second."""
    others: int
    """People seen at once who are no identity of the sample, at most."""
    together: float
    """Share of the sampled frames in which another identity of the sample is seen too, 0..1."""
    sharpness: float | None
    """Median of `datapipe.faces.crops`; None where the sampled pictures are too small to tell."""

    @property
    def box(self) -> tuple[float, float, float, float]:
        return self.left, self.top, self.right, self.bottom


@dataclass(frozen=True, slots=True)
class Identity:
    """One person of a sample."""

    reference: Reference
    views: tuple[View, ...] = ()
    scores: Scores | None = None
    """Of the reference picture itself."""
    embedding: tuple[float, ...] = ()
    """Of the reference picture by the scoring recogniser; unit length."""
    windows: tuple[Window, ...] = ()
    """Where it is seen, in order of time."""
    portrait: bytes = b""
    """The reference as JPEG, only on its way from Prepare to Synthesize."""
    cutouts: tuple[tuple[View, bytes], ...] = ()
    """Real views by rising yaw with their JPEG, on the same way."""
    track: bytes = b""
    """What was seen of it at each moment (`datapipe.prepare.windows`), on the same way."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """Why a sample did not become a candidate."""

    outcome: Literal["rejected", "error"]
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One video of the corpus."""

    key: str
    """Unique in the corpus; safe as a file name, free of dots and slashes."""
    source: Source
    caption: str = ""
    identities: tuple[Identity, ...] = ()
    others: int = 0
    """Identities seen beyond those kept."""
    captions: tuple[str, ...] = ()
    """All of them, `caption` first, where the source holds several."""
    caption_problem: str = ""
    """Why there is no caption although the source holds something."""
    candidate: str | None = None
    """Path of the immutable candidate below the run folder, once it is written."""
    stopped: Stopped | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall-clock seconds by stage, but for waiting while another sample has the GPU."""

    @property
    def outcome(self) -> Outcome:
        return "candidate" if self.stopped is None else self.stopped.outcome

    def stop(self, outcome: Literal["rejected", "error"], reason: str, detail: str) -> Sample:
        """The same sample, going no further; pictures on board are dropped."""
        stopped = Stopped(outcome, reason, detail)
        return replace(self, stopped=stopped, identities=(), candidate=None)

    def spent(self, stage: str, seconds: float) -> Sample:
        return replace(self, seconds={**self.seconds, stage: seconds})


def cutout_from_json(data: Mapping[str, Any]) -> Cutout:
    """The inverse of `asdict`, also after a trip through JSON text."""
    placed = {name: tuple(data[name]) for name in ("box", "crop")}
    return Cutout(**{**data, **placed, "pose": Pose(**data["pose"])})


def reference_to_json(reference: Reference) -> dict[str, Any]:
    return asdict(reference)


def reference_from_json(data: Mapping[str, Any]) -> Reference:
    """The inverse of `reference_to_json`, also after a trip through JSON text."""
    fixed = {
        **data,
        "pose": Pose(**data["pose"]),
        "box": tuple(data["box"]),
        "crop": tuple(data["crop"]),
    }
    return Reference(**fixed)
