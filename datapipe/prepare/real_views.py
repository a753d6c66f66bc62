"""Real views: the frames of a video that show a person turned to one of the run's yaws.

They cost what decoding a few frames at full size costs, and nothing where nobody turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from datapipe.errors import check_range
from datapipe.faces.base import Face, FaceAnalyzer
from datapipe.faces.crops import FACE_SIZE, sharpness
from datapipe.faces.landmarks import BLINK, LIDS
from datapipe.pictures import encode_jpeg
from datapipe.prepare.frontal import LARGE, MIN_INSIDE, SHARP, cut, inside, portrait_square
from datapipe.prepare.people import RELIABLE_YAW, distinct, found_again
from datapipe.prepare.shots import Clear
from datapipe.prepare.tracks import REACH, Box, Track, Vector
from datapipe.prepare.turns import LEVEL_TO, Front, turned
from datapipe.record import Cutout, Identity, Image, View
from datapipe.video.decoder import Decoder, Frame, VideoInfo

TOGETHER = 4
"""Frames that are asked for at once, because the decoder's limit of time is for all of them."""
FINALISTS = 2
"""Frames of a person at a yaw that are looked at in full size, in each of `ROUNDS`."""
ROUNDS = 2
"""How often frames are looked at: a head that turns fast is sought again between those seen."""
TURN = 90.0
"""Degrees between two samples from which on it is a jump and no turn."""
EYES_TO = 45.0
"""Degrees of yaw up to which both eyes are seen."""
SHUT = LIDS[0] * (1 - BLINK[1])
"""Height over width of an eye that nobody holds open."""
WEIGHTS = {"yaw": 0.4, "sharpness": 0.3, "size": 0.2, "score": 0.1}
"""Of the parts of `RealViewSettings.merit`; they sum to 1."""


@dataclass(frozen=True, slots=True)
class RealViewSettings:
    """What a frame must show to be kept as a view; it shapes a run's candidates."""

    tolerance: float = 5.0
    """Most degrees that a head may be turned away from the view's yaw. What is measured
    (`datapipe.prepare.turns`) must be within half of it, since readings are a few degrees off."""
    max_pitch: float = 20.0
    """Most degrees up or down, where |yaw| is 60 or less."""
    max_roll: float = 15.0
    """Most degrees of tilt, likewise: nothing is turned upright."""
    min_face: float = 112.0
    """Mean side of the face box, in pixels of the full-size frame; at least 112."""
    min_sharpness: float = 0.18
    """`datapipe.faces.crops`: about 0.28 in focus."""

    def __post_init__(self) -> None:
        check_range(self, "tolerance", above=0, most=15, option="")
        check_range(self, "max_pitch", "max_roll", above=0, most=90, option="")
        check_range(self, "min_face", least=FACE_SIZE, option="")
        check_range(self, "min_sharpness", least=0, option="")

    def fits(self, yaw: int, here: float, face: Face, width: int, height: int) -> bool:
        """Whether a face of a frame of this size, turned by `here`, can be the view at a yaw: near
        enough, level, large, in the picture."""
        pose = face.pose
        if pose is None or not self.near(yaw, here) or face.size < self.min_face:
            return False
        level = abs(pose.pitch) <= self.max_pitch and abs(pose.roll) <= self.max_roll
        return (level or abs(yaw) > LEVEL_TO) and inside(face, width, height) >= MIN_INSIDE

    def near(self, yaw: int, here: float) -> bool:
        """Whether a measured yaw is as near as it must be to that of a view."""
        return abs(here - yaw) <= self.tolerance / 2

    def merit(self, away: float, face: Face, sharp: float | None) -> float:
        """0..1: the weighted sum of how few degrees away, sharp, large and certain a face is.

        An unknown sharpness counts half.
        """
        parts = {
            "yaw": max(0.0, 1 - 2 * abs(away) / self.tolerance),
            "sharpness": 0.5 if sharp is None else min(1.0, sharp / SHARP),
            "size": min(1.0, face.size / LARGE),
            "score": face.score,
        }
        return sum(WEIGHTS[name] * part for name, part in parts.items())

    def least_cosine(self, yaw: int, same_person: float) -> float | None:
        """What a recogniser must say of a face at a yaw, beyond that its track is the person's.

        The further a head is turned the less alike it is: half of `same_person` is asked for at
        `RELIABLE_YAW`. None where a recogniser cannot judge.
        """
        if abs(yaw) > RELIABLE_YAW:
            return None
        return same_person * (1 - abs(yaw) / RELIABLE_YAW / 2)


Ends = tuple[tuple[int, float], tuple[int, float]]
"""Two frames, one after the other, with the yaws of the head in them."""


@dataclass(frozen=True, slots=True)
class Guess:
    """A frame that may show the person at a yaw."""

    frame: int
    shot: int
    box: Box
    """Where the face should be, in pixels of the full-size frame."""
    merit: float
    between: Ends | None = None
    """Frames around, whose yaws enclose the one sought; None of a frame that was sampled."""

    def again(self, yaw: int, here: float, box: Box) -> Guess | None:
        """Where to look next if the head is turned by `here` in this frame; None if nowhere."""
        if self.between is None:
            return None
        before, after = self.between
        now = self.frame, here
        ends = (before, now) if (before[1] - yaw) * (here - yaw) < 0 else (now, after)
        frame = crossing(ends, yaw)
        return None if frame is None else replace(self, frame=frame, box=box, between=ends)


def crossing(ends: Ends, yaw: int) -> int | None:
    """The frame inside in which a steady turn has a yaw; None where there is none."""
    (first, before), (last, after) = ends
    if (before - yaw) * (after - yaw) >= 0 or last - first < 2:
        return None
    frame = first + round((last - first) * (yaw - before) / (after - before))
    return max(first + 1, min(frame, last - 1))


def guesses(
    tracks: Sequence[Track], yaw: int, settings: RealViewSettings, info: VideoInfo, backend: str
) -> list[Guess]:
    """Frames of a person that may show it at a yaw, the most promising first, `FINALISTS` at most.

    They are sampled frames in which the head is turned so, and frames between two samples of which
    one shows it turned less and the other more. A track that no recogniser has judged gives none.
    """
    found = [
        guess
        for track in tracks
        if track.vector is not None
        for guess in (
            *_sampled(track, yaw, settings, info, backend),
            *_between(track, yaw, settings, backend),
        )
    ]
    best: dict[int, Guess] = {}
    for guess in sorted(found, key=lambda one: (-one.merit, one.frame)):
        best.setdefault(guess.frame, guess)
    return list(best.values())[:FINALISTS]


def _sampled(
    track: Track, yaw: int, settings: RealViewSettings, info: VideoInfo, backend: str
) -> Iterator[Guess]:
    for look in track.looks:
        if look.face.pose is None:
            continue
        here, sharp = turned(look.face.pose, backend), look.sharpness
        blurred = sharp is not None and sharp < settings.min_sharpness
        if settings.fits(yaw, here, look.face, info.width, info.height) and not blurred:
            merit = settings.merit(here - yaw, look.face, sharp)
            yield Guess(look.frame, track.shot, look.face.box, merit)


def _between(track: Track, yaw: int, settings: RealViewSettings, backend: str) -> Iterator[Guess]:
    """Where the line between the yaws of two samples crosses the one that is sought."""
    for one, other in pairwise(track.looks):
        if one.face.pose is None or other.face.pose is None or other.time - one.time > REACH:
            continue
        before, after = turned(one.face.pose, backend), turned(other.face.pose, backend)
        ends = (one.frame, before), (other.frame, after)
        frame = crossing(ends, yaw)
        small = min(one.face.size, other.face.size) < settings.min_face
        if frame is None or small or abs(after - before) > TURN:
            continue
        share = (frame - one.frame) / (other.frame - one.frame)
        boxes = np.array([one.face.box, other.face.box])
        left, top, right, bottom = ((1 - share) * boxes[0] + share * boxes[1]).tolist()
        away = settings.tolerance / 4  # as good as half way to the bound: the head is moving
        merit = min(settings.merit(away, look.face, look.sharpness) for look in (one, other))
        yield Guess(frame, track.shot, (left, top, right, bottom), merit, ends)


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """A frame that shows the person at a yaw."""

    merit: float
    view: View
    picture: bytes
    vector: Vector


class RealViews:
    """Looks at frames of one video in full size and cuts real views out of them."""

    def __init__(
        self,
        decoder: Decoder,
        faces: FaceAnalyzer,
        settings: RealViewSettings,
        path: Path,
        info: VideoInfo,
        *,
        clear: Clear,
        same_person: float,
        side: int,
    ) -> None:
        """Only frames whose time is `clear` are taken. `side` is the side of a view, pixels, at
        most: a smaller one is never enlarged."""
        self._decoder, self._faces, self._settings = decoder, faces, settings
        self._path, self._info = path, info
        self._clear, self._same_person, self._side = clear, same_person, side

    def find(
        self, tracks: Sequence[Track], identity: Identity, vector: Vector, yaws: Sequence[int]
    ) -> tuple[tuple[View, bytes], ...]:
        """The best view of a person at each yaw that has a good one, as JPEG, by rising yaw.

        The tracks are the person's, who has a portrait, and the embedding `vector`.
        """
        name = self._faces.name
        sought = {yaw: guesses(tracks, yaw, self._settings, self._info, name) for yaw in yaws}
        if not any(sought.values()):
            return ()
        front = Front.of(identity, self._faces)
        found: dict[int, _Found] = {}
        for _ in range(ROUNDS):
            seen = self._look({guess.frame for some in sought.values() for guess in some})
            following: dict[int, list[Guess]] = {}
            for yaw in sorted(sought, key=lambda yaw: (abs(yaw), yaw)):
                near = [one.vector for at, one in found.items() if at * yaw > 0]
                for guess in sought[yaw]:
                    if guess.frame not in seen:
                        continue  # damaged
                    made = self._made(yaw, guess, *seen[guess.frame], front, [vector, *near])
                    if isinstance(made, Guess):
                        following.setdefault(yaw, []).append(made)
                    elif made and (yaw not in found or made.merit > found[yaw].merit):
                        found[yaw] = made
            sought = {yaw: some for yaw, some in following.items() if yaw not in found}
        return tuple((found[yaw].view, found[yaw].picture) for yaw in sorted(found))

    def _look(self, indices: set[int]) -> dict[int, tuple[Frame, list[Face]]]:
        """Frames at full size with their faces; damaged ones are left out."""
        wanted, seen = sorted(indices), dict[int, tuple[Frame, list[Face]]]()
        for begin in range(0, len(wanted), TOGETHER):
            frames = self._decoder.frames(self._path, wanted[begin : begin + TOGETHER])
            faces = self._faces.find([frame.image for frame in frames]) if frames else []
            seen |= {f.index: (f, distinct(some)) for f, some in zip(frames, faces, strict=True)}
        return seen

    def _made(
        self,
        yaw: int,
        guess: Guess,
        frame: Frame,
        faces: Sequence[Face],
        front: Front,
        known: Sequence[Vector],
    ) -> _Found | Guess | None:
        """What a frame gives: a view, a better guess, or nothing.

        `known` are embeddings of the person, from the front and from this side.
        """
        settings, image = self._settings, frame.image
        height, width = image.shape[:2]
        face = found_again(Face(guess.box, np.zeros((5, 2), np.float32), 0.0), faces, 1.0)
        if face is None or face.pose is None or not self._clear(frame.timestamp):
            return None
        here = front.yaw_of(image, face, yaw)
        if here is None:
            return None
        if not settings.near(yaw, here):
            return guess.again(yaw, here, face.box)
        sharp = sharpness(image, face)
        if sharp is None or sharp < settings.min_sharpness:
            return None
        if not settings.fits(yaw, here, face, width, height):
            return None
        vector = np.asarray(self._faces.embed(image, [face])[0], np.float32)
        cosine = max(float(vector @ other) for other in known)
        least = settings.least_cosine(yaw, self._same_person)
        if (least is not None and cosine < least) or not self._eyes_open(yaw, image, face):
            return None
        others = [other.box for other in faces if other is not face]
        square = portrait_square(face.box, width, height, others)
        cutout = Cutout(
            frame=frame.index,
            shot=guess.shot,
            box=face.box,
            crop=square,
            pose=face.pose,
            score=face.score,
            sharpness=sharp,
            cosine=round(cosine, 4),
        )
        view = View(yaw, None, source="real", timestamp=frame.timestamp, cutout=cutout)
        picture = encode_jpeg(cut(image, square, self._side))
        return _Found(settings.merit(here - yaw, face, sharp), view, picture, vector)

    def _eyes_open(self, yaw: int, image: Image, face: Face) -> bool:
        if abs(yaw) > EYES_TO:
            return True
        features = self._faces.features(image, face)
        return features is None or features.lids >= SHUT
