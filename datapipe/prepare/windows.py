"""Windows: the spans of a video in which a person is seen, out of the person's tracks."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from datapipe.errors import check_range
from datapipe.faces.base import Face
from datapipe.prepare.tracks import Look, Track
from datapipe.record import Window

MISSED = 2
"""Samples in a row in which a face may be missed while it is there."""
TIE = 1e-6
"""Seconds by which gaps of one length may differ."""
PASSER = 2
"""Looks of a track from which it is a person and no mistake of the detector."""

TRACK = (
    *("time", "shot", "left", "top", "right", "bottom"),
    *("yaw", "pitch", "roll", "score", "sharpness"),
)
"""Columns of a stored track: seconds, boxes in pixels of the full-size frame, degrees. What could
not be measured is NaN."""


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """How people are followed through a video; part of what makes a run's candidates."""

    rate: float = 3.0
    """Frames a second in which faces are sought."""
    min_face: float = 48.0
    """Mean side of the face box, in pixels of the full-size frame, from which a person is seen."""
    min_share: float = 0.8
    """Share of the sampled frames of a window in which the face is found, at least."""
    short: float = 20.0
    """Seconds up to which a video whose samples all look alike is taken for one shot."""

    def __post_init__(self) -> None:
        check_range(self, "rate", least=2, most=60, option="")
        check_range(self, "min_face", "short", least=0, option="")
        check_range(self, "min_share", above=0, most=1, option="")


@dataclass(frozen=True, slots=True)
class Span:
    """Looks at one person that make a window, and where it begins and ends."""

    shot: int
    looks: tuple[Look, ...]
    """In sampled frames."""
    start: float
    end: float
    """Exclusive."""
    more: tuple[Face, ...] = ()
    """The face as it is seen at the ends."""


def seen_runs(
    tracks: Sequence[Track], sampled: Sequence[float], settings: WindowSettings
) -> list[tuple[int, list[Look]]]:
    """Looks of one person, with their shot, parted where the person was not there.

    `sampled` are the times of all frames in which faces were sought.
    """
    runs: list[tuple[int, list[Look]]] = []
    shots = sorted({track.shot for track in tracks})
    moments = np.asarray(sampled)
    for shot in shots:
        looks = sorted(
            (k for t in tracks if t.shot == shot for k in t.looks if _large(k, settings)),
            key=lambda look: look.time,
        )
        if looks:
            runs += [(shot, run) for run in _part(looks, moments, settings)]
    return runs


def _large(look: Look, settings: WindowSettings) -> bool:
    return look.face.size >= settings.min_face


def _part(
    looks: list[Look], sampled: npt.NDArray[np.float64], settings: WindowSettings
) -> list[list[Look]]:
    """Part looks at their longest gap until no gap is long and few samples are missed."""
    allowed = (MISSED + 1.5) / settings.rate
    parts: list[list[Look]] = []
    waiting = [looks]  # the last is next, in order of time
    while waiting:
        run = waiting.pop()
        gaps = np.diff([look.time for look in run])
        begin, end = np.searchsorted(sampled, (run[0].time, run[-1].time))
        longest = float(gaps.max(initial=0.0))
        if longest <= allowed and len(run) >= settings.min_share * (end - begin + 1):
            parts.append(run)
            continue
        cut = gaps > allowed if longest > allowed else gaps >= longest - TIE
        edges = [0, *(np.flatnonzero(cut) + 1).tolist(), len(run)]
        waiting += [run[one:other] for one, other in reversed(list(pairwise(edges)))]
    return parts


@dataclass(frozen=True, slots=True)
class Company:
    """Who else is in the sampled frames."""

    strangers: Mapping[int, int]
    """How many people of no identity are seen, by frame."""
    identities: frozenset[int]
    """Frames in which another identity is seen."""


def company(tracks: Sequence[Track], own: Sequence[Track], kept: Sequence[Track]) -> Company:
    """What others a person with the tracks `own` has, of all `tracks`, where `kept` are those of
    all identities."""
    known = {id(track) for track in kept}
    mine = {id(track) for track in own}
    strangers: dict[int, int] = {}
    for track in tracks:
        if id(track) not in known and len(track.looks) >= PASSER:
            for look in track.looks:
                strangers[look.frame] = strangers.get(look.frame, 0) + 1
    beside = (look.frame for track in kept if id(track) not in mine for look in track.looks)
    return Company(strangers, frozenset(beside))


def window(span: Span, around: Company) -> Window:
    """What is told of a span."""
    looks = span.looks
    sizes = [look.face.size for look in looks]
    boxes = np.array([face.box for face in (*(look.face for look in looks), *span.more)])
    left, top = boxes[:, :2].min(axis=0)
    right, bottom = boxes[:, 2:].max(axis=0)
    yaws = [look.face.pose.yaw for look in looks if look.face.pose is not None] or [0.0]
    low, middle, high = np.percentile(yaws, (5, 50, 95))
    sharp = [look.sharpness for look in looks if look.sharpness is not None]
    frames = {look.frame for look in looks}
    return Window(
        start=round(span.start, 4),
        end=round(span.end, 4),
        shot=span.shot,
        frames_seen=len(frames),
        face_size=_rounded(float(np.median(sizes)), 1),
        face_min=_rounded(min([*sizes, *(face.size for face in span.more)]), 1),
        left=_rounded(float(left), 1),
        top=_rounded(float(top), 1),
        right=_rounded(float(right), 1),
        bottom=_rounded(float(bottom), 1),
        yaw_low=_rounded(float(low), 2),
        yaw_median=_rounded(float(middle), 2),
        yaw_high=_rounded(float(high), 2),
        motion=_rounded(_motion(looks), 3),
        others=max((around.strangers.get(frame, 0) for frame in frames), default=0),
        together=_rounded(len(frames & around.identities) / len(frames), 3),
        sharpness=_rounded(float(np.median(sharp)), 4) if sharp else None,
    )


def _motion(looks: Sequence[Look]) -> float:
    speeds = []
    for before, after in pairwise(looks):
        one, other = (np.array(look.face.box) for look in (before, after))
        way = np.hypot(*((other - one)[:2] + (other - one)[2:]) / 2)
        passed = after.time - before.time
        if passed > 0:
            speeds.append(float(way) / before.face.size / passed)
    return float(np.median(speeds)) if speeds else 0.0


def _rounded(value: float, decimals: int) -> float:
    return round(value, decimals) + 0.0


def track_bytes(tracks: Sequence[Track]) -> bytes:
    """A person's looks as a NumPy file: float32 (looks, len(TRACK)), in order of time."""
    rows = [_row(track.shot, look) for track in tracks for look in track.looks]
    table = np.array(sorted(rows), np.float32).reshape(-1, len(TRACK))
    file = io.BytesIO()
    np.save(file, table)
    return file.getvalue()


def read_track(data: bytes) -> npt.NDArray[np.float32]:
    """Invert `track_bytes`. Raises ValueError for anything else."""
    table = np.load(io.BytesIO(data), allow_pickle=False)
    if table.dtype != np.float32 or table.ndim != 2 or table.shape[1] != len(TRACK):
        raise ValueError(f"a track of {table.dtype} {table.shape}")
    return np.asarray(table, np.float32)


def _row(shot: int, look: Look) -> tuple[float, ...]:
    face, unknown = look.face, float("nan")
    pose = (unknown,) * 3 if face.pose is None else (face.pose.yaw, face.pose.pitch, face.pose.roll)
    sharp = unknown if look.sharpness is None else look.sharpness
    return (look.time, float(shot), *face.box, *pose, face.score, sharp)
