"""The faces of a video: where, whose track, which way they look, how like every reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from datapipe.errors import UserError
from datapipe.faces.base import Face, FaceAnalyzer
from datapipe.faces.crops import sharpness
from datapipe.prepare.people import Person, Sighting, attach
from datapipe.record import Image
from harmoview.bench.suite import Suite
from harmoview.bench.video import FPS, VideoFrame, sample

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

SAME_PERSON = 0.4
"""Cosine of two tracks of one video from which they are one person, as Prepare joins them."""
CUT = 25.0
"""Mean change in grey levels between two frames that means another shot."""
NEAR = 1.0
"""Seconds in which a face keeps its place."""


@dataclass(frozen=True, eq=False)
class KnownFaces:
    """The embeddings of every reference of a suite by one recogniser."""

    names: tuple[str, ...]
    """Identities, sorted."""
    yaws: tuple[int, ...]
    vectors: Floats
    """(identities, yaws, dimensions), unit; NaN where no face was found in the picture."""

    def cosines(self, vectors: Floats) -> Floats:
        """(faces, identities, yaws) for unit rows (faces, dimensions)."""
        return np.asarray(np.einsum("fd,iyd->fiy", vectors, self.vectors), np.float32)

    @property
    def own(self) -> Floats:
        """(identities, yaws, identities, yaws): cosines among the references."""
        return np.asarray(np.einsum("iyd,jzd->iyjz", self.vectors, self.vectors), np.float32)


@dataclass(frozen=True, eq=False)
class Faces:
    """All faces of a video's sampled frames, a row each."""

    sampled: int
    """Frames that were looked at."""
    width: int
    """Of the standardised frame, pixels."""
    frame: Ints
    """Which tick of the standardised video."""
    track: Ints
    """Which person of the video, 0 the most prominent."""
    box: Floats
    """(faces, 4): left, top, right, bottom in pixels of the standardised frame."""
    score: Floats
    pose: Floats
    """(faces, 3): yaw, pitch, roll in degrees; NaN where not measured."""
    true_yaw: Floats
    """Degrees; NaN where nobody knows."""
    sharpness: Floats
    """NaN for a face that is too small."""
    cosines: Floats
    """(faces, identities, yaws) to every reference of the suite, shown or not."""

    @property
    def yaw(self) -> Floats:
        return self.pose[:, 0]


def references(suite: Suite, faces: FaceAnalyzer) -> KnownFaces:
    """Embed every reference. `faces` is set up.

    Raises UserError for a person in none of whose pictures a face is found.
    """
    names = tuple(sorted(suite.identities))
    rows = [[_vector(suite.view(name, yaw), faces) for yaw in suite.yaws] for name in names]
    for name, row in zip(names, rows, strict=True):
        if all(vector is None for vector in row):
            raise UserError(
                f"{suite.folder.url}: {faces.name} finds no face in any picture of {name}, so "
                "nobody can be compared with them; `harmoview bench check` lists what is wrong"
            )
    size = next((len(v) for row in rows for v in row if v is not None), 1)
    empty = np.full(size, np.nan, np.float32)
    vectors = np.stack([np.stack([empty if v is None else v for v in row]) for row in rows])
    return KnownFaces(names, suite.yaws, vectors)


def _vector(picture: Image, faces: FaceAnalyzer) -> Floats | None:
    found = faces.find([picture])[0]
    return faces.embed(picture, found[:1])[0] if found else None


def measure(
    path: Path, faces: FaceAnalyzer, known: KnownFaces, truth: Mapping[str, Any] | None = None
) -> Faces:
    """Look at a video. `truth` is that of a virtual one. Raises BadSample."""
    looked = sample(path)
    seen = [Sighting(frame.index, face) for frame in looked for face in _found(frame, faces)]
    images = {frame.index: frame.image for frame in looked}
    vectors = {id(one): faces.embed(images[one.frame], [one.face])[0] for one in seen}
    tracks = _tracks(looked, seen, vectors)
    high, wide = looked[0].image.shape[:2]
    times = {frame.index: frame.time for frame in looked}
    yaws = [_true_yaw(times[s.frame], s.face, truth, high) for s in seen]
    dimensions = known.vectors.shape[2]
    stacked = np.array([vectors[id(s)] for s in seen], np.float32).reshape(-1, dimensions)
    return Faces(
        sampled=len(looked),
        width=wide,
        frame=np.array([s.frame for s in seen], np.int64),
        track=np.array([tracks[id(s)] for s in seen], np.int64),
        box=np.array([s.face.box for s in seen], np.float32).reshape(-1, 4),
        score=np.array([s.face.score for s in seen], np.float32),
        pose=np.array([_pose(s.face) for s in seen], np.float32).reshape(-1, 3),
        true_yaw=np.array(yaws, np.float32),
        sharpness=np.array([_sharp(images[s.frame], s.face) for s in seen], np.float32),
        cosines=known.cosines(stacked),
    )


def _found(frame: VideoFrame, faces: FaceAnalyzer) -> list[Face]:
    return faces.find([frame.image])[0]


def _tracks(
    looked: Sequence[VideoFrame], seen: Sequence[Sighting], vectors: Mapping[int, Floats]
) -> dict[int, int]:
    """Which person each sighting is, the most prominent first.

    Faces that stay in their place are one track, as in Prepare; alike tracks are joined. But two
    faces of one frame are never one person here: a video may show one person twice, or two blended
    into each other, and that is what is measured.
    """
    small = {frame.index: _thumbnail(frame.image) for frame in looked}

    def same_shot(one: int, other: int) -> bool:
        alike = float(cv2.absdiff(small[one], small[other]).mean()) < CUT
        return alike and abs(one - other) <= NEAR * FPS

    people: list[Person] = []
    for frame in looked:
        probe = [one for one in seen if one.frame == frame.index]
        attached = attach(people, probe, same_shot)
        people += [Person([one]) for one in probe if one not in attached]
    for person in people:
        person.vectors = [vectors[id(one)] for one in person.sightings]
    while pair := _most_alike(people):
        one, other = pair
        one.sightings += other.sightings
        one.vectors += other.vectors
        people = [person for person in people if person is not other]
    people.sort(key=lambda person: -person.prominence)
    return {id(one): number for number, who in enumerate(people) for one in who.sightings}


def _most_alike(people: Sequence[Person]) -> tuple[Person, Person] | None:
    """The two tracks that are joined next: the most alike ones that are never seen together."""
    best, found = SAME_PERSON, None
    for one, other in combinations(people, 2):
        cosine = float(one.vector @ other.vector)
        frames = {sighting.frame for sighting in one.sightings}
        if cosine >= best and not frames & {sighting.frame for sighting in other.sightings}:
            best, found = cosine, (one, other)
    return found


def _thumbnail(image: Image) -> Image:
    return np.asarray(cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA), np.uint8)


def _pose(face: Face) -> tuple[float, float, float]:
    nan = float("nan")
    pose = face.pose
    return (nan, nan, nan) if pose is None else (pose.yaw, pose.pitch, pose.roll)


def _sharp(image: Image, face: Face) -> float:
    found = sharpness(image, face)
    return float("nan") if found is None else found


def _true_yaw(time: float, face: Face, truth: Mapping[str, Any] | None, high: int) -> float:
    """The yaw of the virtual person nearest to the face, if one is there."""
    if truth is None:
        return float("nan")
    scale = high / truth["height"]
    left, top, right, bottom = face.box
    best, yaw = face.size, float("nan")  # farther off than its size, a face is nobody's
    for person in truth["people"]:
        index = min(int(time * truth["fps"] + 0.5), len(person["frames"]) - 1)
        frame = person["frames"][index]
        x = (frame["box"][0] + frame["box"][2]) / 2 * scale - (left + right) / 2
        y = (frame["box"][1] + frame["box"][3]) / 2 * scale - (top + bottom) / 2
        if (distance := float(np.hypot(x, y))) < best:
            best, yaw = distance, float(frame["yaw"])
    return yaw
