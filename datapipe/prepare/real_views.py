"""Real views: the frames of a video that show a person turned to one of the run's yaws.

They cost what decoding a few frames at full size costs, and nothing where nobody turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from datapipe.errors import check_range
from datapipe.faces.base import Face, FaceAnalyzer
from datapipe.faces.expression import BLINK, LIDS
from datapipe.faces.quality import FACE_SIZE, sharpness
from datapipe.pictures import encode_jpeg
from datapipe.prepare.frontal import LARGE, MIN_INSIDE, SHARP, cut, inside, portrait_square
from datapipe.prepare.people import RELIABLE_YAW, distinct, found_again
from datapipe.prepare.tracks import REACH, Box, Look, Track, Vector
from datapipe.record import Cutout, Image, View
from datapipe.video.decoder import Decoder, Frame, VideoInfo

FINALISTS = 2
"""Frames of a person at a yaw that are looked at in full size."""
TURN = 90.0
"""Degrees between two samples from which on it is a jump and no turn."""
LEVEL_TO = 60.0
"""Degrees of yaw up to which pitch and roll mean something."""
EYES_TO = 45.0
"""Degrees of yaw up to which both eyes are seen."""
SHUT = LIDS[0] * (1 - BLINK[1])
"""Height over width of an eye that nobody holds open."""
WEIGHTS = {"yaw": 0.4, "sharpness": 0.3, "size": 0.2, "score": 0.1}
"""Of the parts of `merit`; they sum to 1."""


@dataclass(frozen=True, slots=True)
class RealViewSettings:
    """What a frame must show to be kept as a view; part of what makes a run's candidates."""

    tolerance: float = 5.0
    """Most degrees between the measured yaw and the view's."""
    max_pitch: float = 20.0
    """Most degrees up or down, where |yaw| is 60 or less."""
    max_roll: float = 15.0
    """Most degrees of tilt, likewise: pictures are not turned upright."""
    min_face: float = 112.0
    """Mean side of the face box, in pixels of the full-size frame; at least 112."""
    min_sharpness: float = 0.18
    """`datapipe.faces.quality`: about 0.28 in focus."""

    def __post_init__(self) -> None:
        check_range(self, "tolerance", above=0, most=15, option="")
        check_range(self, "max_pitch", "max_roll", above=0, most=90, option="")
        check_range(self, "min_face", least=FACE_SIZE, option="")
        check_range(self, "min_sharpness", least=0, option="")

    def fits(self, yaw: int, face: Face, width: int, height: int) -> bool:
        """Whether a face of a frame of this size is turned so, level, large, in the picture."""
        pose = face.pose
        if pose is None or abs(pose.yaw - yaw) > self.tolerance or face.size < self.min_face:
            return False
        level = abs(pose.pitch) <= self.max_pitch and abs(pose.roll) <= self.max_roll
        return (level or abs(yaw) > LEVEL_TO) and inside(face, width, height) >= MIN_INSIDE

    def merit(self, yaw: int, face: Face, sharp: float | None) -> float:
        """0..1: the weighted sum of how near the yaw, sharp, large and certain a face is.

        An unknown sharpness counts half.
        """
        away = self.tolerance if face.pose is None else abs(face.pose.yaw - yaw)
        parts = {
            "yaw": max(0.0, 1 - away / self.tolerance),
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


@dataclass(frozen=True, slots=True)
class Guess:
    """A frame that may show the person at a yaw."""

    frame: int
    shot: int
    box: Box
    """Where the face should be, in pixels of the full-size frame."""
    merit: float


def guesses(
    tracks: Sequence[Track], yaw: int, settings: RealViewSettings, info: VideoInfo
) -> list[Guess]:
    """Frames of a person that may show it at a yaw, the most promising first, `FINALISTS` at most.

    They are sampled frames in which the head is turned so, and frames between two samples of which
    one shows it turned less and the other more. A track that no recogniser has judged gives none.
    """
    found = [
        guess
        for track in tracks
        if track.vector is not None
        for guess in (*_sampled(track, yaw, settings, info), *_between(track, yaw, settings, info))
    ]
    best: dict[int, Guess] = {}
    for guess in sorted(found, key=lambda one: (-one.merit, one.frame)):
        best.setdefault(guess.frame, guess)
    return list(best.values())[:FINALISTS]


def _sampled(
    track: Track, yaw: int, settings: RealViewSettings, info: VideoInfo
) -> Iterator[Guess]:
    for look in track.looks:
        sharp = look.sharpness
        blurred = sharp is not None and sharp < settings.min_sharpness
        if settings.fits(yaw, look.face, info.width, info.height) and not blurred:
            merit = settings.merit(yaw, look.face, sharp)
            yield Guess(look.frame, track.shot, look.face.box, merit)


def _between(
    track: Track, yaw: int, settings: RealViewSettings, info: VideoInfo
) -> Iterator[Guess]:
    """Where the line between the yaws of two samples crosses the one that is sought."""
    for one, other in pairwise(track.looks):
        before, after = _yaw(one), _yaw(other)
        if before is None or after is None or other.time - one.time > REACH:
            continue
        small = min(one.face.size, other.face.size) < settings.min_face
        if (before - yaw) * (after - yaw) >= 0 or abs(after - before) > TURN or small:
            continue
        share = (yaw - before) / (after - before)
        frame = info.at(one.time + share * (other.time - one.time))
        if one.frame < frame < other.frame:
            boxes = np.array([one.face.box, other.face.box])
            left, top, right, bottom = ((1 - share) * boxes[0] + share * boxes[1]).tolist()
            # as good as a sample half way to the tolerance: the head is moving
            merit = min(settings.merit(yaw, look.face, look.sharpness) for look in (one, other))
            yield Guess(frame, track.shot, (left, top, right, bottom), merit + WEIGHTS["yaw"] / 2)


def _yaw(look: Look) -> float | None:
    return None if look.face.pose is None else look.face.pose.yaw


class RealViews:
    """Looks at the frames of one video in full size and cuts real views out of them."""

    def __init__(
        self,
        decoder: Decoder,
        faces: FaceAnalyzer,
        settings: RealViewSettings,
        path: Path,
        info: VideoInfo,
        *,
        same_person: float,
        side: int,
    ) -> None:
        """`side` is the side of a view, pixels, at most: a smaller one is never enlarged."""
        self._decoder, self._faces, self._settings = decoder, faces, settings
        self._path, self._info = path, info
        self._same_person, self._side = same_person, side

    def find(
        self, tracks: Sequence[Track], person: Vector, yaws: Sequence[int]
    ) -> tuple[tuple[View, bytes], ...]:
        """The best view of a person at each yaw that has a good one, as JPEG, by rising yaw.

        `person` is the embedding of the person whose tracks they are.
        """
        sought = {yaw: guesses(tracks, yaw, self._settings, self._info) for yaw in yaws}
        wanted = sorted({guess.frame for some in sought.values() for guess in some})
        if not wanted:
            return ()
        frames = {frame.index: frame for frame in self._decoder.frames(self._path, wanted)}
        images = [frame.image for frame in frames.values()]
        faces = dict(zip(frames, map(distinct, self._faces.find(images)), strict=True))
        found: dict[int, tuple[View, bytes]] = {}
        vectors: dict[int, Vector] = {0: person}
        for yaw in sorted(yaws, key=lambda yaw: (abs(yaw), yaw)):
            nearer = [v for at, v in vectors.items() if at * yaw >= 0 and abs(at) < abs(yaw)]
            best = 0.0
            for guess in sought[yaw]:
                if guess.frame not in frames:
                    continue  # damaged
                frame, around = frames[guess.frame], faces[guess.frame]
                seen = self._measure(yaw, guess, frame, around, nearer)
                if seen is not None and seen[0] > best:
                    best, found[yaw], vectors[yaw] = seen
        return tuple(found[yaw] for yaw in sorted(found))

    def _measure(
        self, yaw: int, guess: Guess, frame: Frame, faces: Sequence[Face], nearer: Sequence[Vector]
    ) -> tuple[float, tuple[View, bytes], Vector] | None:
        """The merit of a frame, the view that it gives and its embedding; None where it is unfit.

        `nearer` are embeddings of the person, in front and on the way to this yaw.
        """
        settings, image = self._settings, frame.image
        height, width = image.shape[:2]
        expected = Face(guess.box, np.zeros((5, 2), np.float32), 0.0)
        face = found_again(expected, faces, 1.0)
        if face is None or face.pose is None or not settings.fits(yaw, face, width, height):
            return None
        sharp = sharpness(image, face)
        if sharp is None or sharp < settings.min_sharpness or not self._eyes_open(yaw, image, face):
            return None
        vector = np.asarray(self._faces.embed(image, [face])[0], np.float32)
        cosine = max(float(vector @ known) for known in nearer)
        least = settings.least_cosine(yaw, self._same_person)
        if least is not None and cosine < least:
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
        return settings.merit(yaw, face, sharp), (view, picture), vector

    def _eyes_open(self, yaw: int, image: Image, face: Face) -> bool:
        if abs(yaw) > EYES_TO:
            return True
        features = self._faces.features(image, face)
        return features is None or features.lids >= SHUT
