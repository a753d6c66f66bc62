"""The look at one clip: its people, the frames in which they may look straight, the best one.

Which frames of a clip to look at: evenly first, then towards frontal faces.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datapipe.errors import BadSample, Reason, check_range
from datapipe.faces.base import Face, FaceAnalyzer
from datapipe.pictures import encode_jpeg
from datapipe.prepare.follow import Seen
from datapipe.prepare.frontal import (
    FrontalBound,
    Measured,
    best_first,
    cut,
    measure,
    no_frontal,
    portrait_square,
)
from datapipe.prepare.people import Person, Sighting, attach, distinct, found_again, group
from datapipe.prepare.real_views import RealViewSettings
from datapipe.prepare.shots import NEAR, Clear, group_start, same_shot
from datapipe.prepare.windows import WindowSettings
from datapipe.record import Identity, Image, Reference
from datapipe.video.decoder import Decoder, Frame, VideoInfo, VideoLimits

REACH = 0.25
"""Share of a group of pictures, from its key frame on, that is probed in a long clip.

All frames from the key frame on must be decoded to get at one, so probes are drawn towards it: a
quarter of the decoding, still spread evenly over the groups. Encoders start a new group at a cut.
"""
CHEAP = 300
"""Frames whose decoding does not matter: clips so long are probed evenly."""
STEP = 0.2
"""Seconds to the frame that tells which way a head turns."""
LINE = 3
"""Starting points of a person from which frontal frames are sought."""


def coarse(info: VideoInfo, count: int) -> list[int]:
    """Frames spread over the clip, in a long one each drawn towards the key frame before it."""
    reach = min(1.0, max(REACH, CHEAP / info.frames))
    indices = set()
    for part in range(count):
        wanted = (part + 0.5) * info.frames / count
        start = group_start(info, int(wanted))
        indices.add(int(start + (wanted - start) * reach))
    return sorted(indices)


def check_seen(probes: Sequence[Sequence[Sighting]], wanted: int) -> None:
    """Raises BadSample `damaged` when most of the probes are missing, `no_face`."""
    if 2 * len(probes) < wanted:
        lost = wanted - len(probes)
        detail = f"{lost} of {wanted} frames looked at are damaged ({lost / wanted:.0%})"
        raise BadSample("damaged", detail)
    if not any(probes):
        raise BadSample("no_face", f"no face in {len(probes)} frames")


def finer(info: VideoInfo, person: Person, probed: set[int]) -> Iterator[int]:
    """Frames not yet probed in which the person may look straight, the most promising first."""
    ranked = sorted(person.sightings, key=lambda s: (s.turn, s.frame))[:LINE]
    for sighting in ranked:
        index = _free(_zero(info, sighting, person.sightings), probed, info)
        if index is not None:
            probed = probed | {index}
            yield index


def _zero(info: VideoInfo, here: Sighting, all_: Sequence[Sighting]) -> int:
    """Where the line through a sighting and its nearest neighbour in time crosses yaw zero."""
    reach = NEAR * max(info.fps, 1.0)
    step = max(1, round(STEP * info.fps))
    near = [s for s in all_ if s.frame != here.frame and abs(s.frame - here.frame) <= reach]
    if not near:
        forward = here.frame + step
        return forward if forward < info.frames else here.frame - step
    yaw = _yaw(here)
    crossing = [s for s in near if _yaw(s) * yaw < 0]
    other = min(crossing or near, key=lambda s: (abs(s.frame - here.frame), s.turn))
    change = (_yaw(other) - yaw) / (other.frame - here.frame)
    ahead = -yaw / change if change else float(step)
    return round(here.frame + max(-reach, min(reach, ahead)))


def _free(index: int, probed: set[int], info: VideoInfo) -> int | None:
    """The index, or the nearest within `STEP` that has not been probed."""
    index = max(0, min(index, info.frames - 1))
    for distance in range(max(1, round(STEP * info.fps)) + 1):
        for near in (index + distance, index - distance):
            if 0 <= near < info.frames and near not in probed:
                return near
    return None


def _yaw(sighting: Sighting) -> float:
    return 0.0 if sighting.face.pose is None else sighting.face.pose.yaw


FINALISTS = 3
"""Frames of a person that are measured at full size."""
SETTLED_YAW, SETTLED = 3.0, 3
"""The search ends for a person with so many faces within so many degrees."""
FUNNEL: tuple[Reason, ...] = ("no_frontal", "damaged", "too_small", "too_blurred")
"""A clip is rejected for the reason of the person who got furthest."""


@dataclass(frozen=True, slots=True)
class PrepareSettings:
    """How references are found; part of what makes a run's candidates."""

    frames: int = 32
    """Frames of a clip that are looked at, at most: half spread over the clip, half where faces
    turn frontal."""
    probe_side: int = 640
    """Long side to which probed frames are scaled down, pixels."""
    identities: int = 2
    """People of a clip that are kept, at most: the largest and longest seen."""
    same_person: float = 0.4
    """Cosine of face embeddings from which two faces are one person."""
    portrait_side: int = 512
    """Side of the portrait, pixels, at most: a smaller one is never enlarged."""
    min_frames: int = 8
    """A clip with fewer is too short."""
    request_seconds: float = 60.0
    """Wall-clock limit of one decoding request; a clip takes some five to fifteen."""
    frontal: FrontalBound = field(default_factory=FrontalBound)
    windows: WindowSettings = field(default_factory=WindowSettings)
    real: RealViewSettings = field(default_factory=RealViewSettings)
    limits: VideoLimits = field(default_factory=VideoLimits)

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of its range."""
        check_range(self, "identities", "min_frames", least=1, option="")
        check_range(self, "frames", least=4 * FINALISTS * self.identities, option="")
        check_range(self, "probe_side", least=160, option="")
        check_range(self, "portrait_side", least=64, option="")
        check_range(self, "same_person", above=0, under=1, option="")
        check_range(self, "request_seconds", above=0, option="")


class Search:
    """The look at one clip."""

    def __init__(
        self,
        decoder: Decoder,
        faces: FaceAnalyzer,
        settings: PrepareSettings,
        path: Path,
        info: VideoInfo,
    ) -> None:
        self._decoder, self._faces, self._settings = decoder, faces, settings
        self._path, self._info = path, info
        self._images: dict[int, Image] = {}
        self._same_shot = functools.partial(same_shot, info, self._images)
        self._times: dict[int, float] = {}
        self._whole: set[int] = set()  # frames made whole from two fields
        self._found: dict[int, list[Face]] = {}
        self._full: dict[int, tuple[Image, list[Face]]] = {}
        self._scale = min(1.0, settings.probe_side / max(info.width, info.height))

    def people(self) -> list[Person]:
        """Everyone in the evenly spread probes. Raises BadSample `damaged`, `no_face`."""
        wanted = coarse(self._info, self._settings.frames // 2)
        probes = self._look(wanted)
        check_seen(probes, len(wanted))
        return group(probes, self._same_shot, self._embed, self._settings.same_person)

    def refine(self, kept: Sequence[Person], people: Sequence[Person]) -> None:
        """Look where the people kept may look straight, until that is found or paid for."""
        settings = self._settings
        left = settings.frames - len(self._images) - FINALISTS * settings.identities
        tried = set(self._images)
        while left > 0:
            searched = [person for person in kept if not _settled(person)]
            ways = [finer(self._info, person, tried) for person in searched]
            ranked = [i for rank in zip_longest(*ways) for i in rank if i is not None]
            wanted = sorted(set(ranked[:left]))
            if not wanted:
                return
            tried.update(wanted)
            left -= len(wanted)
            for probe in self._look(wanted):
                attach(people, probe, self._same_shot)

    def references(
        self, kept: Sequence[Person], clear: Clear = lambda time: True
    ) -> list[Identity | BadSample]:
        """Each person's best portrait, or why there is none: `no_frontal`, `too_small`, …

        Only of frames whose time is `clear`.
        """
        frontal = [self._ranked(person) for person in kept]
        ranked = [[p for p in some if clear(self._times[p[0].frame])] for some in frontal]
        lost = set[int]()
        while True:  # until all finalists are known to be undamaged
            finalists = [
                [pair for pair in some if pair[0].frame not in lost][:FINALISTS] for some in ranked
            ]
            new = {s.frame for some in finalists for s, _ in some} - self._full.keys()
            if not new:
                break
            self._look_full(sorted(new))
            lost |= new - self._full.keys()
        return [
            self._best(person, left, len(some))
            if some or not faded
            else BadSample("no_frontal", f"all {len(faded)} frontal faces are in fades")
            for person, some, left, faded in zip(kept, ranked, finalists, frontal, strict=True)
        ]

    def seen(self) -> dict[int, Seen]:
        """The probed frames."""
        return {index: Seen(image, self._found[index]) for index, image in self._images.items()}

    def _ranked(self, person: Person) -> list[tuple[Sighting, Measured]]:
        """Where the person looks straight; the best first, by what is seen in the probes."""
        images, bound = self._images, self._settings.frontal
        frontal = [s for s in person.sightings if bound.frontal(s.face, images[s.frame])]
        measured = {s: measure(images[s.frame], s.face, self._scale) for s in frontal}
        return best_first(measured, lambda s: self._faces.features(images[s.frame], s.face), bound)

    def _best(
        self, person: Person, finalists: Sequence[tuple[Sighting, Measured]], frontal: int
    ) -> Identity | BadSample:
        if frontal and not finalists:
            return BadSample("damaged", f"all {frontal} frames with a frontal face are damaged")
        failures = [no_frontal(person, self._settings.frontal)]
        fit: list[tuple[Sighting, Measured]] = []
        for sighting, probed in finalists:
            try:
                measured = replace(self._full_size(sighting), expression=probed.expression)
                fit.append((sighting, measured))
            except BadSample as unfit:
                failures.append(unfit)
        for sighting, measured in sorted(fit, key=lambda f: -f[1].merit(self._settings.frontal)):
            image, faces = self._full[sighting.frame]
            vector = self._faces.embed(image, [measured.face])[0]
            if float(vector @ person.vector) >= self._settings.same_person:
                return self._identity(person, sighting, image, faces, measured)
            failures.append(BadSample("no_frontal", "the frontal face is another person's"))
        return max(failures, key=lambda failure: FUNNEL.index(failure.reason))

    def _full_size(self, sighting: Sighting) -> Measured:
        """The face as measured on the full-size frame. Raises BadSample where it is unfit."""
        bound = self._settings.frontal
        image, faces = self._full[sighting.frame]
        face = found_again(sighting.face, faces, self._scale)
        if face is None:
            raise BadSample("no_frontal", "the face is not found at full size")
        if not bound.frontal(face, image):
            raise BadSample("no_frontal", "the face is not frontal at full size")
        if face.size < bound.min_face:
            detail = f"face of {face.size:.0f} pixels, at least {bound.min_face:.0f} are needed"
            raise BadSample("too_small", detail)
        measured = measure(image, face, 1.0)
        sharp = measured.sharpness or 0.0
        if sharp < bound.min_sharpness:
            detail = f"sharpness {sharp:.2f}, at least {bound.min_sharpness:.2f} is needed"
            raise BadSample("too_blurred", detail)
        return measured

    def _identity(
        self,
        person: Person,
        sighting: Sighting,
        image: Image,
        faces: Sequence[Face],
        measured: Measured,
    ) -> Identity:
        face = measured.face
        assert face.pose is not None
        assert measured.sharpness is not None
        neighbours = [other.box for other in faces if other is not face]
        height, width = image.shape[:2]
        square = portrait_square(face.box, width, height, neighbours)
        reference = Reference(
            timestamp=self._times[sighting.frame],
            frame=sighting.frame,
            box=face.box,
            crop=square,
            pose=face.pose,
            score=face.score,
            sharpness=measured.sharpness,
            seen=len(person.sightings),
            transfer=self._info.transfer,
            deinterlaced=sighting.frame in self._whole,
            expression=measured.expression,
        )
        portrait = encode_jpeg(cut(image, square, self._settings.portrait_side))
        return Identity(reference=reference, portrait=portrait)

    def _look(self, indices: Sequence[int]) -> list[list[Sighting]]:
        """The faces of frames, one list for each that could be decoded."""
        frames = self._decoder.frames(self._path, indices, self._settings.probe_side)
        found = self._detect(frames)
        for frame, faces in zip(frames, found, strict=True):
            self._images[frame.index] = frame.image
            self._times[frame.index] = frame.timestamp
            self._found[frame.index] = faces
        return [
            [Sighting(frame.index, face) for face in faces]
            for frame, faces in zip(frames, found, strict=True)
        ]

    def _look_full(self, indices: Sequence[int]) -> None:
        """The same at full size, in one request: key frames are shared."""
        checked = self._scale < 1.0 or self._info.hides_damage
        frames = self._decoder.frames(self._path, indices) if checked else []
        if self._scale == 1.0:  # they are as they were, those that have passed
            passed = {frame.index for frame in frames} if checked else set(indices)
            kept = [index for index in indices if index in passed]
            self._full |= {index: (self._images[index], self._found[index]) for index in kept}
        else:
            pairs = zip(frames, self._detect(frames), strict=True)
            self._full |= {frame.index: (frame.image, faces) for frame, faces in pairs}

    def _detect(self, frames: Sequence[Frame]) -> list[list[Face]]:
        self._whole.update(frame.index for frame in frames if frame.deinterlaced)
        return [distinct(faces) for faces in self._faces.find([frame.image for frame in frames])]

    def _embed(self, sightings: Sequence[Sighting]) -> NDArray[np.float32]:
        rows = [self._faces.embed(self._images[s.frame], [s.face])[0] for s in sightings]
        return np.stack(rows)


def _settled(person: Person) -> bool:
    poses = [sighting.face.pose for sighting in person.sightings]
    return sum(pose is not None and abs(pose.yaw) <= SETTLED_YAW for pose in poses) >= SETTLED
