"""From a searched clip to pictures: the sharpest frames at each yaw, cut to squares of one size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from datapipe.errors import BadSample
from datapipe.faces.base import Face, FaceAnalyzer
from datapipe.faces.crops import FACE_SIZE, eye_visibility, sharpness
from datapipe.pictures import encode_jpeg
from datapipe.prepare.frontal import cut
from datapipe.prepare.people import Person, Sighting
from datapipe.record import Image
from datapipe.video.decoder import Decoder
from lora_engine.acquire import yaw_geometry
from lora_engine.acquire.settings import AcquireSettings
from lora_engine.acquire.subject_search import BOUND, SubjectSearch
from lora_engine.pairs import SubjectFrame

EYES_OPEN = 0.2
"""`eye_visibility` below which eyes are closed."""
EYES_SEEN = 30
"""Degrees of yaw up to which closed eyes can be told."""
FLAW = 0.5
"""Factor on a frame's merit for closed eyes, and again for a second face in the frame."""
UNKNOWN = 0.1
"""Merit of a face that is too small for its sharpness to be known; in focus is about 0.28."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A face in a frame or picture, measured at full size."""

    frame: int
    """Place in the clip, or among the pictures."""
    image: Image
    face: Face
    yaw: float
    """Degrees, by which the square is placed."""
    sharp: float | None
    """None where the face is too small for that."""
    merit: float
    """Sharpness, less for flaws."""

    def cut_to(
        self, frontal: Choice, side: int, size: int, yaw: int, timestamp: float
    ) -> SubjectFrame:
        """Return the frame as it stands for a yaw: a square of `side` pixels, scaled to `size`."""
        pose = self.face.pose
        height, width = self.image.shape[:2]
        square = yaw_geometry.head_square(
            self.face.box, self.yaw, frontal.face.size, side, (width, height)
        )
        return SubjectFrame(
            yaw=yaw,
            picture=encode_jpeg(sized(cut(self.image, square, size), size)),
            measured_yaw=None if pose is None else yaw_geometry.yaw_of(pose),
            timestamp=timestamp,
            sharpness=self.sharp,
        )


def merit(image: Image, face: Face, others: Sequence[Face], yaw: int) -> tuple[float | None, float]:
    """Measure a frame: its sharpness, None where the face is too small for that, and its merit."""
    sharp = sharpness(image, face)
    worth = UNKNOWN if sharp is None else sharp
    if abs(yaw) <= EYES_SEEN and eye_visibility(image, face) < EYES_OPEN:
        worth *= FLAW
    if others:
        worth *= FLAW
    return sharp, worth


def whole(face: Face, image: Image) -> bool:
    """Whether the face is in the picture, but for up to a tenth on each side."""
    left, top, right, bottom = face.box
    height, width = image.shape[:2]
    rim = face.size / 10
    return left >= -rim and top >= -rim and right <= width + rim and bottom <= height + rim


def sized(image: Image, side: int) -> Image:
    """Enlarge a picture to `side` pixels where the clip shows the head smaller."""
    if image.shape[0] == side:
        return image
    larger: Image = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
    return larger


MIN_FRAMES = 8
"""A clip with fewer is too short."""


@dataclass(frozen=True, slots=True)
class PickedFrames:
    """The frames of one clip."""

    frames: tuple[SubjectFrame, ...]
    """The best for each yaw."""
    embedding: tuple[float, ...]
    """The face's, in the frontal frame; of unit length."""
    looked: int
    """How many frames were looked at."""
    total: int
    """How many frames the clip has."""
    more: tuple[SubjectFrame, ...] = ()
    """The next best for each yaw."""
    references: tuple[SubjectFrame, ...] = ()
    """Frontal frames, the best first."""

    @property
    def rendered(self) -> bool:
        """Whether the clip came with true yaws, and so with a name that is beyond doubt."""
        return any(frame.true_yaw is not None for frame in self.frames)

    @property
    def pictures(self) -> dict[str, bytes]:
        """The JPEG of every frame by its name."""
        return {f.name: f.picture for f in (*self.frames, *self.more, *self.references)}

    def with_pictures(self, pictures: Mapping[str, bytes]) -> PickedFrames:
        """Return the same frames with the pictures that have their names."""

        def filled(frames: Sequence[SubjectFrame]) -> tuple[SubjectFrame, ...]:
            return tuple(replace(frame, picture=pictures[frame.name]) for frame in frames)

        return replace(
            self,
            frames=filled(self.frames),
            more=filled(self.more),
            references=filled(self.references),
        )


def pick(
    decoder: Decoder,
    faces: FaceAnalyzer,
    settings: AcquireSettings,
    path: Path,
    truth: Mapping[int, float],
) -> PickedFrames:
    """Pick the best frames of a clip for each yaw that it shows, and references.

    `truth` is the true yaw by frame, where it is known. Raises BadSample (`unreadable`, `no_video`,
    `too_large`, `too_short`, `no_face`, `no_frontal`, `too_small`, `too_blurred`), and DecoderDied
    or DecodeTimeout where the video cannot be decoded without harm.
    """
    info = decoder.probe(path)
    if info.frames < MIN_FRAMES:
        raise BadSample("too_short", f"{info.frames} frames, at least {MIN_FRAMES} are needed")
    search = SubjectSearch(decoder, faces, settings, path, info, truth if settings.truth else {})
    subject = search.subject()
    straight = _frontal(search, subject, settings)
    frontal = straight[0]
    side = yaw_geometry.square_side(frontal.face.size, info.width, info.height)

    def frame(choice: Choice, yaw: int) -> SubjectFrame:
        shown = choice.cut_to(frontal, side, settings.side, yaw, search.times[choice.frame])
        return replace(shown, true_yaw=truth.get(choice.frame))

    kept = {
        yaw: (_best(search, subject, settings, yaw) if yaw else straight)[: settings.frames]
        for yaw in sorted(settings.yaws)
    }
    references = [frontal, *_references(search, subject, frontal, settings.references - 1)]
    vector = faces.embed(frontal.image, [frontal.face])[0]
    return numbered(
        kept,
        references,
        frame,
        embedding=tuple(float(x) for x in vector),
        looked=search.looked,
        total=info.frames,
    )


def numbered(
    kept: Mapping[int, Sequence[Choice]],
    references: Sequence[Choice],
    frame: Callable[[Choice, int], SubjectFrame],
    *,
    embedding: tuple[float, ...],
    looked: int,
    total: int,
) -> PickedFrames:
    """Make frames of the choices for each yaw and of the references, the best of each first.

    `frame` makes one of a choice and the yaw for which it stands.
    """
    placed = [
        replace(frame(choice, yaw), number=number)
        for yaw, some in kept.items()
        for number, choice in enumerate(some)
    ]
    shown = [
        replace(frame(choice, 0), number=number, reference=True)
        for number, choice in enumerate(references)
    ]
    best = tuple(one for one in placed if one.number == 0)
    more = tuple(one for one in placed if one.number > 0)
    return PickedFrames(best, embedding, looked, total, more, tuple(shown))


def _frontal(search: SubjectSearch, subject: Person, settings: AcquireSettings) -> list[Choice]:
    """Return the frames for yaw 0, the one by which all others are cut first.

    Raises BadSample where there is none.
    """
    hits = search.hits(subject, 0)
    if not hits:
        nearest = min(abs(search.yaw(s.frame, s.face)) for s in subject.sightings)
        detail = (
            f"the straightest of {len(subject.sightings)} faces has a yaw of {nearest:.0f}°; "
            f"{settings.tolerance:g}° and a pitch of {BOUND.max_pitch:g}° are allowed"
        )
        raise BadSample("no_frontal", detail)
    if best := _best(search, subject, settings, 0):
        return best
    size = max(s.face.size for s in hits) / search.scale
    if size < FACE_SIZE:
        detail = f"face of {size:.0f} pixels, at least {FACE_SIZE} are needed"
        raise BadSample("too_small", detail)
    raise BadSample(
        "too_blurred", f"no frontal frame is whole and as sharp as {BOUND.min_sharpness:g}"
    )


def _best(
    search: SubjectSearch, subject: Person, settings: AcquireSettings, yaw: int
) -> list[Choice]:
    """Return the frames for a yaw, measured at full size, those of greatest merit first."""
    hits = search.hits(subject, yaw)
    rough = {s.frame: merit(search.image(s.frame), s.face, search.others(s), yaw)[1] for s in hits}
    ranked = sorted(hits, key=lambda s: (-rough[s.frame], s.frame))[: settings.choices]
    choices = _choices(search, ranked, yaw, lambda s: search.shows(s.frame, s.face, yaw))
    return sorted(choices, key=lambda c: (-c.merit, c.frame))


def _references(
    search: SubjectSearch, subject: Person, frontal: Choice, count: int
) -> list[Choice]:
    """Return up to `count` more frontal frames, of yaws as different as the main job admits.

    None has closed eyes or another face in the picture: the main job avoids these too.
    """

    def fits(sighting: Sighting) -> bool:
        pose = sighting.face.pose
        level = pose is not None and abs(pose.pitch) <= BOUND.max_pitch
        return level and abs(search.yaw(sighting.frame, sighting.face)) <= BOUND.max_yaw

    hits = [s for s in subject.sightings if fits(s) and s.frame != frontal.frame]
    spread: list[Sighting] = []
    for yaw in np.linspace(-BOUND.max_yaw, BOUND.max_yaw, count):
        left = [s for s in hits if s not in spread]
        if left:
            spread.append(
                min(left, key=lambda s: (abs(search.yaw(s.frame, s.face) - yaw), s.frame))
            )
    return [c for c in _choices(search, spread, 0, fits) if c.merit == c.sharp]


def _choices(
    search: SubjectSearch,
    sightings: Sequence[Sighting],
    yaw: int,
    fits: Callable[[Sighting], bool],
) -> list[Choice]:
    """Measure sightings at full size, and keep those that are whole, sharp enough and still fit."""
    choices = []
    for sighting, image, others in search.full(sightings):
        face = sighting.face
        sharp, worth = merit(image, face, others, yaw)
        if yaw == 0 and sharp is None:
            continue  # too small for a reference; at other yaws the face is smaller anyway
        sharp_enough = sharp is None or sharp >= BOUND.min_sharpness
        if sharp_enough and whole(face, image) and fits(sighting):
            at = search.yaw(sighting.frame, face)
            choices.append(Choice(sighting.frame, image, face, at, sharp, worth))
    return choices
