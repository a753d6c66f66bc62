"""Following people through a video: shots, tracks and windows in one pass of decoding."""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from datapipe.faces.base import Face, FaceAnalyzer
from datapipe.faces.crops import sharpness
from datapipe.prepare.people import distinct
from datapipe.prepare.shots import SIDE, TINY, Shot, ShotChange, ShotFinder, Stills, shots, steady
from datapipe.prepare.tracks import Box, Look, Track, Tracker, Vector, closeness, recognise
from datapipe.prepare.windows import (
    Span,
    WindowSettings,
    company,
    seen_runs,
    track_bytes,
    window,
)
from datapipe.record import Image, Window
from datapipe.video.decoder import Decoder, Pass, VideoInfo

SMALL = 416
"""Long side of a sampled picture, pixels, that is not gone below."""
FOUND = 16
"""Pixels at which every detector finds a face."""
TOGETHER = 8
"""Frames in which faces are sought at once."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame that was looked at already, and its faces in its own pixels."""

    image: Image
    faces: Sequence[Face]


@dataclass(frozen=True, slots=True)
class Followed:
    """Where one person is seen."""

    tracks: tuple[Track, ...]
    windows: tuple[Window, ...]

    @property
    def stored(self) -> bytes:
        """The tracks as `datapipe.prepare.windows.read_track` reads them."""
        return track_bytes(self.tracks)


class Follower:
    """Follows the people of one video."""

    def __init__(
        self,
        decoder: Decoder,
        faces: FaceAnalyzer,
        settings: WindowSettings,
        path: Path,
        info: VideoInfo,
        side: int,
    ) -> None:
        """`side` is the long side of the pictures in which faces are sought, pixels, at most."""
        self._decoder, self._faces, self._settings = decoder, faces, settings
        self._path, self._info = path, info
        # the detector's time goes with the picture; the smallest face still has `FOUND` pixels
        least = FOUND / max(settings.min_face, 1.0) * max(info.width, info.height)
        self._side = min(side, max(SMALL, round(least)))
        self._tracker = Tracker()
        self._times: list[float] = []  # of the frames that were sampled, ascending
        self._frames: list[int] = []
        self._boxes: dict[int, list[Box]] = {}
        self._changes: list[ShotChange] = []
        self._stills = Stills()

    def watch(self, seen: Mapping[int, Seen]) -> None:
        """Look through the video once, before `follow`; `seen` are frames that need not be decoded
        again."""
        if self._info.seconds > self._settings.short or not self._one_shot(seen):
            self._sweep(seen)

    def clear(self, time: float) -> bool:
        """Whether the picture of a time shows one shot alone."""
        return not any(change.mixes(time) for change in self._changes)

    def follow(
        self, people: Sequence[Vector], kept: Sequence[int], same_person: float
    ) -> list[Followed]:
        """Where the people are that are kept, out of all people with these embeddings."""
        tracks = self._tracker.tracks
        mine = recognise(tracks, people, same_person)
        identities = [track for place in kept for track in mine[place]]
        whole = shots(self._changes, self._info)
        found = []
        spans = [self._spans(mine[place]) for place in kept]
        for place, own in zip(kept, self._with_ends(spans, whole), strict=True):
            around = company(tracks, mine[place], identities)
            windows = tuple(window(span, around) for span in own)
            found.append(Followed(tuple(mine[place]), windows))
        return found

    def _spans(self, tracks: Sequence[Track]) -> list[Span]:
        return [
            Span(shot, tuple(looks), looks[0].time, looks[-1].time)
            for shot, looks in seen_runs(tracks, self._times, self._settings)
        ]

    def _sampled(self, seen: Mapping[int, Seen]) -> tuple[list[int], list[int]]:
        """Frames in which faces are sought: those that were seen, and those that are missing."""
        info, half = self._info, 0.5 / self._settings.rate
        wanted = Pass(self._settings.rate).frames(info, 0.0, info.seconds) or [0]
        known = [index for index in sorted(seen) if index < info.frames]
        chosen = {_nearest(info, known, index, half) for index in wanted}
        return sorted(chosen & set(known)), sorted(chosen - set(known))

    def _one_shot(self, seen: Mapping[int, Seen]) -> bool:
        """Whether a short video's samples look alike; then its people are followed in them."""
        probed, missing = self._sampled(seen)
        frames = {f.index: f.image for f in self._decoder.frames(self._path, missing, self._side)}
        some = {i: seen[i].image for i in probed} | frames
        if not steady([some[index] for index in sorted(some)]):
            return False
        found = dict(zip(frames, self.find(list(frames.values())), strict=True))
        for index in sorted(some):
            faces = found[index] if index in found else seen[index].faces
            self._take(index, self._time(index), some[index], faces, 0)
        return True

    def _sweep(self, seen: Mapping[int, Seen]) -> None:
        """Find shots and follow faces while the video is decoded once, a few frames in memory."""
        finder, waiting = ShotFinder(), deque[tuple[int, Seen | Image]]()
        probed, missing = self._sampled(seen)
        left = deque(probed)
        passes = [Pass(None, SIDE), Pass(None, self._side, loose=True, chosen=missing)]
        for number, frame in self._decoder.sweep(self._path, passes):
            if number == 0:
                finder.add(frame.timestamp, frame.image)
                self._stills.add(frame.timestamp, frame.image, finder.changes)
                while left and left[0] <= frame.index:
                    self._wait(waiting, left[0], seen[left.popleft()])
            elif frame.index not in probed:
                self._wait(waiting, frame.index, frame.image)
            if len(waiting) >= TOGETHER and self._time(waiting[TOGETHER - 1][0]) < finder.settled:
                self._look([waiting.popleft() for _ in range(TOGETHER)], finder.changes)
        self._changes = finder.end()
        waiting += [(index, seen[index]) for index in left]
        while waiting:
            some = [waiting.popleft() for _ in range(min(TOGETHER, len(waiting)))]
            self._look(some, self._changes)

    def _wait(
        self, waiting: deque[tuple[int, Seen | Image]], index: int, shown: Seen | Image
    ) -> None:
        self._stills.sample(self._time(index))
        waiting.append((index, shown))

    def _look(
        self, frames: Sequence[tuple[int, Seen | Image]], changes: Sequence[ShotChange]
    ) -> None:
        firsts = [change.first for change in changes]
        found = iter(self.find([shown for _, shown in frames if not isinstance(shown, Seen)]))
        for index, shown in frames:
            one = shown if isinstance(shown, Seen) else Seen(shown, next(found))
            time = self._time(index)
            shot = bisect.bisect_right(firsts, time)
            between = shot < len(changes) and time > changes[shot].last
            if not between:
                self._take(index, time, one.image, one.faces, shot)

    def _time(self, index: int) -> float:
        return round(float(self._info.times[index]), 4)

    def _with_ends(
        self, spans: Sequence[Sequence[Span]], whole: Sequence[Shot]
    ) -> list[list[Span]]:
        """Each person's spans to the frame in which the person comes or goes.

        Between the last sample without and the first with the person it is found by bisection, for
        all ends at once, since frames share their decoding.
        """
        ends = [
            [(self._end(span, whole[span.shot], -1), self._end(span, whole[span.shot], 1))
             for span in own]
            for own in spans
        ]  # fmt: skip
        open_ = [end for own in ends for pair in own for end in pair]
        while asked := sorted({end.asks for end in open_ if not end.done}):
            for begin in range(0, len(asked), TOGETHER):
                some = asked[begin : begin + TOGETHER]
                frames = self._decoder.frames(self._path, some, self._side)
                found = self.find([frame.image for frame in frames])
                faces = {
                    frame.index: [self._enlarged(frame.image, face) for face in own]
                    for frame, own in zip(frames, found, strict=True)
                }
                for end in open_:
                    if not end.done and end.asks in some:
                        end.answer(faces.get(end.asks, []), self._settings.min_face)
        return [
            [self._bounded(span, *pair, whole[span.shot]) for span, pair in zip(*both, strict=True)]
            for both in zip(spans, ends, strict=True)
        ]

    def _end(self, span: Span, shot: Shot, way: int) -> _End:
        """What is to be found out about one end: -1 the start, 1 the end."""
        info, look = self._info, span.looks[0 if way < 0 else -1]
        edge = info.at(shot.start + TINY) if way < 0 else info.at(shot.end - TINY)
        place = bisect.bisect_left(self._frames, look.frame) + way
        beyond = self._frames[place] if 0 <= place < len(self._frames) else None
        if beyond is None or (edge - beyond) * way < 0:
            if self._still(edge, look.face.box):
                return _End(look.face, edge, edge + way)
            return _End(look.face, look.frame, edge + way, at_edge=True)
        if any(closeness(look.face.box, box) for box in self._boxes[beyond]):
            return _End(look.face, look.frame, look.frame + way)  # somebody is there
        return _End(look.face, look.frame, beyond)

    def _still(self, edge: int, box: Box) -> bool:
        wide, high = self._info.width, self._info.height
        place = box[0] / wide, box[1] / high, box[2] / wide, box[3] / high
        return self._stills.still(self._time(edge), place)

    def _bounded(self, span: Span, start: _End, end: _End, shot: Shot) -> Span:
        times = self._info.times
        after = end.seen + 1
        until = float(times[after]) if after < len(times) else self._info.seconds
        return replace(
            span,
            start=float(times[start.seen]),
            end=min(until, shot.end),
            more=tuple(start.faces + end.faces),
        )

    def find(self, images: Sequence[Image]) -> list[list[Face]]:
        """The faces of sampled pictures, each with one box, in their own pixels."""
        return [distinct(faces) for faces in self._faces.find(images, quick=True)] if images else []

    def _take(
        self, index: int, time: float, image: Image, faces: Sequence[Face], shot: int
    ) -> None:
        """Add a sampled frame's faces to the tracks."""
        full = [self._enlarged(image, face) for face in faces]
        own = {id(large): face for large, face in zip(full, faces, strict=True)}
        looks = [
            Look(index, time, large, sharpness(image, face))
            for large, face in zip(full, faces, strict=True)
        ]

        def embed(large: Face) -> Vector:
            return np.asarray(self._faces.embed(image, [own[id(large)]])[0], np.float32)

        self._times.append(time)
        self._frames.append(index)
        self._boxes[index] = [face.box for face in full]
        self._tracker.add(shot, looks, embed)

    def _enlarged(self, image: Image, face: Face) -> Face:
        """A face of a picture in pixels of the full-size frame."""
        scale = max(image.shape[:2]) / max(self._info.width, self._info.height)
        if scale == 1.0:
            return face
        left, top, right, bottom = (edge / scale for edge in face.box)
        return replace(face, box=(left, top, right, bottom), points=face.points / scale)


@dataclass(slots=True, eq=False)
class _End:
    """One end of a span, while it is sought."""

    face: Face
    """As it was last seen."""
    seen: int
    """The outermost frame in which the person was seen."""
    unseen: int
    """The innermost frame in which the person was not, or the first one of another shot."""
    at_edge: bool = False
    """Whether the frame before `unseen` is asked for first: mostly the person is in it."""
    faces: list[Face] = field(default_factory=list)
    """The sightings since."""

    @property
    def done(self) -> bool:
        return abs(self.seen - self.unseen) <= 1

    @property
    def asks(self) -> int:
        """The frame that is to be looked at next."""
        if self.at_edge:
            return self.unseen + (1 if self.seen > self.unseen else -1)
        return (self.seen + self.unseen) // 2

    def answer(self, faces: Sequence[Face], min_face: float) -> None:
        """Take the faces of the frame asked for."""
        asked, self.at_edge = self.asks, False
        near = [(closeness(self.face.box, face.box), place) for place, face in enumerate(faces)]
        close, place = max(near, default=(0.0, 0))
        if close > 0 and faces[place].size >= min_face:
            self.face, self.seen = faces[place], asked
            self.faces.append(faces[place])
        else:
            self.unseen = asked


def _nearest(info: VideoInfo, known: Sequence[int], index: int, reach: float) -> int:
    """Of the known frames the one nearest in time to a frame, within a reach; else itself."""
    place = bisect.bisect_left(known, index)
    near = [known[k] for k in (place - 1, place) if 0 <= k < len(known)]
    time = info.times[index]
    best = min(near, key=lambda frame: (abs(info.times[frame] - time), frame), default=index)
    return best if abs(info.times[best] - time) <= reach else index
