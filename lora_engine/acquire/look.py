"""The look at one clip: the subject's face in sparse frames, denser where a wanted yaw may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from datapipe import probing
from datapipe.errors import BadSample
from datapipe.faces.base import Face, FaceAnalyzer
from datapipe.frontal import FrontalBound
from datapipe.identities import MIN_OVERLAP, Person, Sighting, attach, group, iou
from datapipe.record import YAWS, Image
from datapipe.search import CUT
from datapipe.video import Decoder, VideoInfo
from lora_engine.acquire import turn

BOUND = FrontalBound()
READABLE = 60
"""Degrees of yaw up to which pitch and roll mean something; see docs/filters.md."""


@dataclass(frozen=True, slots=True)
class AcquireSettings:
    """How frames are picked."""

    yaws: tuple[int, ...] = YAWS
    """Degrees; positive when the nose points to image right. They must hold 0."""
    tolerance: float = 3.0
    """Degrees by which a frame's yaw may differ from the one it stands for."""
    side: int = 512
    """Side of the pictures in pixels, for every subject; at least 64."""
    every: float = 0.25
    """Seconds between the frames that are looked at first."""
    looks: int = 160
    """Frames of a clip that are looked at, at most."""
    choices: int = 4
    """Frames for each yaw among which the sharpest is taken, if the clip has so many."""
    truth: bool = False
    """Pick by the yaw in a clip's .json (as `harmoview subjects` writes it) where there is one,
    instead of the yaw measured."""

    def __post_init__(self) -> None:
        if 0 not in self.yaws:
            raise ValueError("--yaws must hold 0: the frontal frame is the reference")
        if len(set(self.yaws)) < len(self.yaws) or max(map(abs, self.yaws)) > 90:
            raise ValueError(f"--yaws must differ and lie within -90 and 90, not {self.yaws}")
        if not 0 < self.tolerance <= 15:
            raise ValueError(f"--tolerance must be above 0 and at most 15, not {self.tolerance}")
        if self.side < 64:
            raise ValueError(f"--side must be at least 64 pixels, not {self.side}")
        if self.every <= 0 or self.choices < 1:
            raise ValueError("--every must be above 0, --choices at least 1")
        if self.looks < 8 * len(self.yaws):
            raise ValueError(f"--looks must be at least {8 * len(self.yaws)}, not {self.looks}")


PROBE_SIDE = 640
"""Long side to which frames are scaled down for the search, pixels."""
SAME_PERSON = 0.4
"""Cosine from which two faces of one clip are one person."""


class Look:
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
        self.times: dict[int, float] = {}
        self._found: dict[int, list[Face]] = {}
        self.scale = min(1.0, PROBE_SIDE / max(info.width, info.height))

    def subject(self) -> Person:
        """The person seen most, in every frame that was worth a look.

        Raises BadSample `unreadable`, `no_face`.
        """
        count = round(self._info.seconds / self._settings.every)
        wanted = probing.coarse(self._info, max(8, min(count, self._settings.looks // 2)))
        probes = self._probe(wanted)
        if 2 * len(probes) < len(wanted):
            detail = f"only {len(probes)} of {len(wanted)} frames could be decoded"
            raise BadSample("unreadable", detail)
        people = group(probes, self._same_shot, self._embed, SAME_PERSON)
        if not people:
            raise BadSample("no_face", f"no face in {len(probes)} frames")
        self._refine(people)
        return people[0]

    def hits(self, subject: Person, yaw: int) -> list[Sighting]:
        """Sightings that show a yaw, by time."""
        some = [s for s in subject.sightings if self.shows(s.frame, s.face, yaw)]
        return sorted(some, key=lambda s: s.frame)

    def shows(self, frame: int, face: Face, yaw: int) -> bool:
        """Whether a face has a yaw within the tolerance, and is level as far as that is known."""
        if face.pose is None or abs(self.yaw(frame, face) - yaw) > self._settings.tolerance:
            return False
        return abs(yaw) > READABLE or abs(face.pose.pitch) <= BOUND.max_pitch

    def yaw(self, frame: int, face: Face) -> float:
        """Degrees, by which frames are picked: the truth, if that is asked for, or measured."""
        if frame in self._truth:
            return self._truth[frame]
        return 180.0 if face.pose is None else turn.yaw_of(face.pose)

    def others(self, sighting: Sighting) -> list[Face]:
        """The other faces of its frame, as probed."""
        return [face for face in self._found[sighting.frame] if face is not sighting.face]

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

    def _refine(self, people: Sequence[Person]) -> None:
        subject, settings = people[0], self._settings
        tried = set(self._images)
        while len(tried) < settings.looks:
            counts = {yaw: len(self.hits(subject, yaw)) for yaw in settings.yaws}
            seen = {s.frame: self.yaw(s.frame, s.face) for s in subject.sightings if s.face.pose}
            open_ = [yaw for yaw, count in counts.items() if count < settings.choices]
            wanted = turn.next_frames(seen, open_, tried)[: settings.looks - len(tried)]
            if not wanted:
                return
            tried.update(wanted)
            for probe in self._probe(wanted):
                attach(people, probe, self._same_shot)

    def _probe(self, indices: Sequence[int]) -> list[list[Sighting]]:
        frames = self._decoder.frames(self._path, indices, PROBE_SIDE)
        found = self._faces.find([frame.image for frame in frames])
        for frame, faces in zip(frames, found, strict=True):
            self._images[frame.index] = frame.image
            self.times[frame.index] = frame.timestamp
            self._found[frame.index] = faces
        return [
            [Sighting(frame.index, face) for face in faces]
            for frame, faces in zip(frames, found, strict=True)
        ]

    def _same_shot(self, one: int, other: int) -> bool:
        if not probing.same_shot(self._info, one, other):
            return False
        change = cv2.absdiff(_thumbnail(self._images[one]), _thumbnail(self._images[other]))
        return float(change.mean()) < CUT

    def _embed(self, sightings: Sequence[Sighting]) -> NDArray[np.float32]:
        rows = [self._faces.embed(self._images[s.frame], [s.face])[0] for s in sightings]
        return np.stack(rows)


def _thumbnail(image: Image) -> Image:
    small: Image = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)
    return small
