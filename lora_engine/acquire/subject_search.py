"""The look at one clip: the subject's face in sparse frames, denser where a wanted yaw may be."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datapipe.faces.base import Face, FaceAnalyzer
from datapipe.prepare import search
from datapipe.prepare.frontal import FrontalBound
from datapipe.prepare.people import MIN_OVERLAP, Person, Sighting, group, iou
from datapipe.prepare.video import Decoder, VideoInfo
from datapipe.record import Image
from lora_engine.acquire import yaw_geometry
from lora_engine.acquire.settings import AcquireSettings

BOUND = FrontalBound()
READABLE = 60
"""Degrees of yaw up to which pitch and roll mean something; see docs/filters.md."""
SIDEWAYS = 90
ROUNDS = 8
"""Of `turn.next_frames`: a yaw that so many have not found is not to be seen in the clip."""
PROBE_SIDE = 640
"""Long side to which frames are scaled down for the search, pixels."""
SAME_PERSON = 0.4
"""Cosine from which two faces of one clip are one person."""


class SubjectSearch:
    """Finds the subject of a clip and the frames that show each yaw."""

    def __init__(
        self,
        decoder: Decoder,
        faces: FaceAnalyzer,
        settings: AcquireSettings,
        path: Path,
        info: VideoInfo,
        truth: Mapping[int, float],
    ) -> None:
        """`truth` is the yaw by frame; where there is one, it takes the place of the measured."""
        self._decoder, self._faces, self._settings = decoder, faces, settings
        self._path, self._info, self._truth = path, info, truth
        self._images: dict[int, Image] = {}
        self._same_shot = functools.partial(search.same_shot, info, self._images)
        self.times: dict[int, float] = {}
        self._found: dict[int, list[Sighting]] = {}
        self._vectors: dict[Sighting, NDArray[np.float32]] = {}
        self.scale = min(1.0, PROBE_SIDE / max(info.width, info.height))

    def subject(self) -> Person:
        """The person seen most, in every frame that was worth a look.

        Raises BadSample `unreadable`, `no_face`.
        """
        count = round(self._info.seconds / self._settings.every)
        count = min(max(8, min(count, self._settings.looks // 2)), self._info.frames)
        # Evenly: probes drawn towards key frames, as Prepare's are, would pass over a turn.
        wanted = [int((part + 0.5) * self._info.frames / count) for part in range(count)]
        probes = self._probe(wanted)
        search.check_seen(probes, len(wanted))
        return self._refined()

    def hits(self, subject: Person, yaw: int) -> list[Sighting]:
        """Sightings that show a yaw, by time."""
        some = [s for s in subject.sightings if self.shows(s.frame, s.face, yaw)]
        if self._by_time(yaw):
            seen = {s.frame: self.yaw(s.frame, s.face) for s in subject.sightings}
            farthest = set(yaw_geometry.in_profile(seen, 1 if yaw > 0 else -1))
            some = [s for s in some if s.frame in farthest]
        return sorted(some, key=lambda s: s.frame)

    def shows(self, frame: int, face: Face, yaw: int) -> bool:
        """Whether a face reads as a yaw, and is level as far as that is known."""
        at = self.yaw(frame, face)
        if self._by_time(yaw):
            return math.copysign(at, at * yaw) >= yaw_geometry.PROFILE
        if face.pose is None or abs(at - yaw) > self._settings.tolerance:
            return False
        return abs(yaw) > READABLE or abs(face.pose.pitch) <= BOUND.max_pitch

    def _by_time(self, yaw: int) -> bool:
        """Profiles cannot be read, unless the truth is known; their place in the turn is."""
        return abs(yaw) == SIDEWAYS and not self._truth

    def yaw(self, frame: int, face: Face) -> float:
        """Degrees, by which frames are picked: the truth, if that is asked for, or measured."""
        if frame in self._truth:
            return self._truth[frame]
        return 180.0 if face.pose is None else yaw_geometry.yaw_of(face.pose)

    def others(self, sighting: Sighting) -> list[Face]:
        """The other faces of its frame, as probed."""
        return [s.face for s in self._found[sighting.frame] if s is not sighting]

    def image(self, frame: int) -> Image:
        """A frame as probed, `scale` times as large as the full-size frame."""
        return self._images[frame]

    def full(self, sightings: Sequence[Sighting]) -> list[tuple[Sighting, Image, list[Face]]]:
        """The subject's face in full-size frames, with the other faces there.

        Those that cannot be decoded or in which the face is not found again are left out.
        """
        if self.scale == 1.0:
            return [(s, self._images[s.frame], self.others(s)) for s in sightings]
        frames = self._decoder.frames(self._path, [s.frame for s in sightings])
        found = self._faces.find([frame.image for frame in frames])
        pictures = {f.index: (f.image, some) for f, some in zip(frames, found, strict=True)}
        result = []
        for sighting in sightings:
            image, faces = pictures.get(sighting.frame, (None, []))
            box = [edge / self.scale for edge in sighting.face.box]
            face = max(faces, key=lambda f: iou(f.box, box), default=None)
            if image is not None and face is not None and iou(face.box, box) >= MIN_OVERLAP:
                others = [other for other in faces if other is not face]
                result.append((Sighting(sighting.frame, face), image, others))
        return result

    def _refined(self) -> Person:
        """The subject, after a look at all frames in which a yaw may be that is still wanted."""
        settings, tried = self._settings, set(self._images)
        for _ in range(ROUNDS):
            subject = self._main_person()
            short = [y for y in settings.yaws if len(self.hits(subject, y)) < settings.choices]
            wanted = yaw_geometry.next_frames(self._seen(subject), short, tried)
            wanted = wanted[: settings.looks - len(tried)]
            if not wanted:
                return subject
            tried.update(wanted)
            self._probe(wanted)
        return self._main_person()

    def _main_person(self) -> Person:
        """Who is seen most: tracks part where a head turns fast, and join as frames are added."""
        probes = [self._found[frame] for frame in sorted(self._found)]
        return group(probes, self._same_shot, self._embed, SAME_PERSON)[0]

    def _seen(self, subject: Person) -> dict[int, float]:
        """Yaw by frame of the subject, and of whoever is alone in a frame without the subject."""
        alone = (some[0] for some in self._found.values() if len(some) == 1)
        seen = {s.frame: s for s in alone} | {s.frame: s for s in subject.sightings}
        return {f: self.yaw(f, s.face) for f, s in seen.items() if s.face.pose is not None}

    def _probe(self, indices: Sequence[int]) -> list[list[Sighting]]:
        frames = self._decoder.frames(self._path, indices, PROBE_SIDE)
        found = self._faces.find([frame.image for frame in frames])
        for frame, faces in zip(frames, found, strict=True):
            self._images[frame.index] = frame.image
            self.times[frame.index] = frame.timestamp
            self._found[frame.index] = [Sighting(frame.index, face) for face in faces]
        return [self._found[frame.index] for frame in frames]

    def _embed(self, sightings: Sequence[Sighting]) -> NDArray[np.float32]:
        for s in sightings:
            if s not in self._vectors:
                self._vectors[s] = self._faces.embed(self._images[s.frame], [s.face])[0]
        return np.stack([self._vectors[s] for s in sightings])
