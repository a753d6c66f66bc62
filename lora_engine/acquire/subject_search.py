"""The search of one clip: sparse frames for its subject, then denser where a yaw is missing."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datapipe.faces.base import Face, FaceAnalyzer
from datapipe.prepare import search
from datapipe.prepare.people import Person, Sighting, distinct, found_again, group
from datapipe.prepare.shots import (
    FLASH,
    SIDE,
    TINY,
    ShotChange,
    find_changes,
    same_shot,
    shots,
    steady,
)
from datapipe.record import Image
from datapipe.video.decoder import Decoder, VideoInfo
from lora_engine.acquire import yaw_geometry
from lora_engine.acquire.settings import AcquireSettings

PREPARE = search.PrepareSettings()
"""How the main job searches a clip; probes and people are the same here."""
BOUND = PREPARE.frontal
"""What a frontal frame must be, here as for the references of the main job."""
READABLE = 60
"""Degrees of yaw up to which pitch and roll mean something; see docs/filters.md."""
SIDEWAYS = 90
"""The yaw of profiles, degrees."""
ROUNDS = 8
"""Rounds of `yaw_geometry.next_frames`: a yaw not found by then is not to be seen in the clip."""


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
        """Prepares a search; `truth` is the yaw by frame, and replaces measured yaws if given."""
        self._decoder, self._faces, self._settings = decoder, faces, settings
        self._path, self._info, self._truth = path, info, truth
        self._images: dict[int, Image] = {}
        self._same_shot = functools.partial(same_shot, info, self._images)
        self.times: dict[int, float] = {}
        """Seconds, of the frames that were looked at and are in the subject's shot."""
        self.looked = 0
        """Frames that were looked at."""
        self._found: dict[int, list[Sighting]] = {}
        self._vectors: dict[Sighting, NDArray[np.float32]] = {}
        self.scale = min(1.0, PREPARE.probe_side / max(info.width, info.height))

    def subject(self) -> Person:
        """Find the person who is seen most, in every frame of a shot that was worth a look.

        Raises BadSample `unreadable` or `no_face`.
        """
        count = round(self._info.seconds / self._settings.every)
        count = min(max(8, min(count, self._settings.looks // 2)), self._info.frames)
        # spread evenly: probes drawn towards key frames, as in `prepare`, would miss a turn
        wanted = [int((part + 0.5) * self._info.frames / count) for part in range(count)]
        probes = self._probe(wanted)
        search.check_seen(probes, len(wanted))
        self._keep_one_shot()
        return self._refined()

    def hits(self, subject: Person, yaw: int) -> list[Sighting]:
        """Return the sightings of a person that show a yaw, by time."""
        some = [s for s in subject.sightings if self.shows(s.frame, s.face, yaw)]
        if self._by_time(yaw):
            seen = {s.frame: self.yaw(s.frame, s.face) for s in subject.sightings}
            farthest = set(yaw_geometry.in_profile(seen, 1 if yaw > 0 else -1))
            some = [s for s in some if s.frame in farthest]
        return sorted(some, key=lambda s: s.frame)

    def shows(self, frame: int, face: Face, yaw: int) -> bool:
        """Whether a face reads as a yaw, and is level as far as that can be known."""
        at = self.yaw(frame, face)
        if self._by_time(yaw):
            return math.copysign(at, at * yaw) >= yaw_geometry.PROFILE
        if face.pose is None or abs(at - yaw) > self._settings.tolerance:
            return False
        return abs(yaw) > READABLE or abs(face.pose.pitch) <= BOUND.max_pitch

    def _by_time(self, yaw: int) -> bool:
        """Whether a yaw is found by its time in the turn, as profiles without known truth are."""
        return abs(yaw) == SIDEWAYS and not self._truth

    def yaw(self, frame: int, face: Face) -> float:
        """Return the yaw by which a frame is picked, degrees: the truth where it is given."""
        if frame in self._truth:
            return self._truth[frame]
        return 180.0 if face.pose is None else yaw_geometry.yaw_of(face.pose)

    def others(self, sighting: Sighting) -> list[Face]:
        """Return the other faces of a sighting's frame, as probed."""
        return [s.face for s in self._found[sighting.frame] if s is not sighting]

    def image(self, frame: int) -> Image:
        """Return a frame as probed, which is `scale` times as large as at full size."""
        return self._images[frame]

    def full(self, sightings: Sequence[Sighting]) -> list[tuple[Sighting, Image, list[Face]]]:
        """Find the subject's face again at full size: sighting, picture and other faces.

        Frames that cannot be decoded, or in which the face is not found again, are left out.
        """
        asked = [s.frame for s in sightings]
        checked = self.scale < 1.0 or self._info.hides_damage
        frames = self._decoder.frames(self._path, asked) if checked else []
        if self.scale == 1.0:  # they are as they were, those that have passed
            passed = {frame.index for frame in frames} if checked else set(asked)
            kept = [s for s in sightings if s.frame in passed]
            return [(s, self._images[s.frame], self.others(s)) for s in kept]
        found = [distinct(some) for some in self._faces.find([frame.image for frame in frames])]
        pictures = {f.index: (f.image, some) for f, some in zip(frames, found, strict=True)}
        result = []
        for sighting in sightings:
            image, faces = pictures.get(sighting.frame, (None, []))
            face = found_again(sighting.face, faces, self.scale)
            if image is not None and face is not None:
                others = [other for other in faces if other is not face]
                result.append((Sighting(sighting.frame, face), image, others))
        return result

    def _keep_one_shot(self) -> None:
        """Forget all frames but those of the most promising shot, if the clip has cuts."""
        frames, changes = sorted(self._images), self._changes()
        if not changes:
            return
        parts = [
            [f for f in frames if shot.start - TINY <= self.times[f] < shot.end - TINY]
            for shot in shots(changes, self._info)
        ]
        kept = max(parts, key=self._promise)
        for frame in set(frames) - set(kept):
            del self._images[frame], self.times[frame], self._found[frame]

    def _changes(self) -> list[ShotChange]:
        """Find cuts: every frame between two probes is looked at where these look different.

        A head that turns fast changes a picture as much from probe to probe as a cut does, but
        little from frame to frame.
        """
        found: set[ShotChange] = set()
        for one, other in pairwise(sorted(self._images)):
            if not steady([self._images[one], self._images[other]]):
                near = range(max(0, one - FLASH), min(self._info.frames, other + FLASH + 1))
                frames = self._decoder.frames(self._path, near, SIDE)
                found.update(find_changes([(frame.timestamp, frame.image) for frame in frames]))
        return sorted(found, key=lambda change: change.first)

    def _promise(self, frames: Sequence[int]) -> tuple[bool, int, float, int]:
        """Rate a shot: by the yaws that its head passes, then by how much it is alone, by length.

        The head is the largest face of each frame; a shot without any comes last.
        """
        faces = [self._found[frame] for frame in frames]
        largest = [max(some, key=lambda s: s.face.size) for some in faces if some]
        turn = [self.yaw(s.frame, s.face) for s in largest if s.face.pose is not None]
        low = min(turn, default=math.inf) - yaw_geometry.REACH
        high = max(turn, default=-math.inf) + yaw_geometry.REACH
        passed = sum(low <= yaw <= high for yaw in self._settings.yaws)
        alone = sum(len(some) == 1 for some in faces) / max(1, len(faces))
        return bool(largest), passed, alone, len(frames)

    def _refined(self) -> Person:
        """Look where yaws that are still wanted may be, and return the subject."""
        settings, tried = self._settings, set(self._images)
        for _ in range(ROUNDS):
            subject = self._main_person()
            short = [y for y in settings.yaws if len(self.hits(subject, y)) < settings.choices]
            wanted = yaw_geometry.next_frames(self._seen(subject), short, tried)
            wanted = wanted[: settings.looks - self.looked]
            if not wanted:
                return subject
            tried.update(wanted)
            self._probe(wanted)
        return self._main_person()

    def _main_person(self) -> Person:
        """Return who is seen most; tracks that a fast turn has parted join as frames are added."""
        probes = [self._found[frame] for frame in sorted(self._found)]
        return group(probes, self._same_shot, self._embed, PREPARE.same_person)[0]

    def _seen(self, subject: Person) -> dict[int, float]:
        """Return yaw by frame: of the subject, or of whoever is alone in a frame without them."""
        alone = (some[0] for some in self._found.values() if len(some) == 1)
        seen = {s.frame: s for s in alone} | {s.frame: s for s in subject.sightings}
        return {f: self.yaw(f, s.face) for f, s in seen.items() if s.face.pose is not None}

    def _probe(self, indices: Sequence[int]) -> list[list[Sighting]]:
        frames = self._decoder.frames(self._path, indices, PREPARE.probe_side)
        found = [distinct(some) for some in self._faces.find([frame.image for frame in frames])]
        for frame, faces in zip(frames, found, strict=True):
            self._images[frame.index] = frame.image
            self.times[frame.index] = frame.timestamp
            self._found[frame.index] = [Sighting(frame.index, face) for face in faces]
        self.looked += len(frames)
        return [self._found[frame.index] for frame in frames]

    def _embed(self, sightings: Sequence[Sighting]) -> NDArray[np.float32]:
        for s in sightings:
            if s not in self._vectors:
                self._vectors[s] = self._faces.embed(self._images[s.frame], [s.face])[0]
        return np.stack([self._vectors[s] for s in sightings])
