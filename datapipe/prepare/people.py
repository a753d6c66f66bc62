"""Who is in a clip: the faces of its probed frames, grouped into people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from datapipe.faces.base import Face

MIN_OVERLAP = 0.3
"""Intersection over union of a face's boxes in two probes of one shot."""
EMBEDDED = 2
"""Faces of a track that are embedded: its most frontal ones."""
SAME_MOMENT = 0.75
"""Cosine from which two people who are seen together are one: a mirror, a picture beside a picture.

Both show one moment, so they are more alike than two sightings at different times. SFace gives
mirror images .81 and more at any yaw up to 75 degrees, and frontal ones .97; of nine portraits the
two most alike have .67.
"""
INSIDE = 0.5
"""Share of a face's box inside a larger one from which both are boxes of one face."""
RELIABLE_YAW = 60.0
"""Degrees; recognisers tell little beyond, so a track without a better face is set apart."""


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """A face in a probed frame."""

    frame: int
    face: Face
    """In pixels of the probed frame."""

    @property
    def turn(self) -> float:
        """Degrees from frontal, yaw foremost."""
        pose = self.face.pose
        return 180.0 if pose is None else abs(pose.yaw) + abs(pose.pitch) / 2


@dataclass(slots=True, eq=False)
class Person:
    """Sightings of one person."""

    sightings: list[Sighting]
    vectors: list[NDArray[np.float32]] = field(default_factory=list)
    """Embeddings, unit length."""

    @property
    def vector(self) -> NDArray[np.float32]:
        """Unit mean of the embeddings."""
        mean = np.mean(self.vectors, axis=0)
        unit: NDArray[np.float32] = mean / max(float(np.linalg.norm(mean)), 1e-9)
        return unit

    @property
    def reliable(self) -> bool:
        """Whether an embedding comes from a face that a recogniser can judge."""
        poses = [sighting.face.pose for sighting in self.sightings]
        return any(pose is not None and abs(pose.yaw) <= RELIABLE_YAW for pose in poses)

    @property
    def prominence(self) -> float:
        """Large and long seen: the sum of the face sizes."""
        return sum(sighting.face.size for sighting in self.sightings)

    def nearest(self, frame: int) -> Sighting:
        return min(self.sightings, key=lambda sighting: abs(sighting.frame - frame))


SameShot = Callable[[int, int], bool]
"""Whether two frames are near enough in time for a face to have stayed in its place."""


def group(
    probes: Iterable[Sequence[Sighting]],
    same_shot: SameShot,
    embed: Callable[[Sequence[Sighting]], NDArray[np.float32]],
    same_person: float,
) -> list[Person]:
    """People, the most prominent first; `probes` are the faces of each frame in order of time.

    Faces that stay in their place within a shot are one track. Tracks are joined by the cosine of
    their mean embeddings, the most alike first, down to `same_person`; those that share a frame,
    down to `SAME_MOMENT`, and there the less prominent sighting goes.
    """
    people: list[Person] = []
    for probe in probes:
        attached = attach(people, probe, same_shot)
        people += [Person([sighting]) for sighting in probe if sighting not in attached]
    for person in people:
        best = sorted(person.sightings, key=lambda s: (s.turn, s.frame))[:EMBEDDED]
        person.vectors = list(embed(best))
    people = _join(people, same_person)
    return sorted(people, key=lambda p: (not p.reliable, -p.prominence, p.sightings[0].frame))


def attach(
    people: Sequence[Person], probe: Sequence[Sighting], same_shot: SameShot
) -> list[Sighting]:
    """Give a frame's faces to the people who were there, best overlap first; who were given."""
    pairs = []
    for person in people:
        for sighting in probe:
            last = person.nearest(sighting.frame)
            overlap = iou(last.face.box, sighting.face.box)
            if overlap >= MIN_OVERLAP and same_shot(last.frame, sighting.frame):
                pairs.append((overlap, person, sighting))
    given: list[Sighting] = []
    taken: list[Person] = []
    for _, person, sighting in sorted(pairs, key=lambda pair: -pair[0]):
        if sighting not in given and person not in taken:
            person.sightings.append(sighting)
            given.append(sighting)
            taken.append(person)
    return given


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes."""
    shared = _shared(a, b)
    return shared / (_area(a) + _area(b) - shared) if shared else 0.0


def found_again(probed: Face, faces: Sequence[Face], scale: float) -> Face | None:
    """Find a face among those of the full-size frame, where `scale` was the probe's; or None."""
    expected = [edge / scale for edge in probed.box]
    face = max(faces, key=lambda face: iou(face.box, expected), default=None)
    return face if face is not None and iou(face.box, expected) >= MIN_OVERLAP else None


def distinct(faces: Sequence[Face]) -> list[Face]:
    """The faces of one frame, largest first, each with one box."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.size):
        if all(_shared(face.box, other.box) < INSIDE * _area(face.box) for other in kept):
            kept.append(face)
    return kept


def _join(people: list[Person], same_person: float) -> list[Person]:
    while len(people) > 1:
        vectors = np.stack([person.vector for person in people])
        cosines = np.tril(vectors @ vectors.T, -1)
        order = np.argsort(-cosines, axis=None, kind="stable")[
            : int((cosines >= same_person).sum())
        ]
        pairs = (divmod(int(place), len(people)) for place in order)
        bar = max(same_person, SAME_MOMENT)
        pair = next(
            (p for p in pairs if cosines[p] >= bar or not _together(people[p[0]], people[p[1]])),
            None,
        )
        if pair is None:
            break
        stays, gone = sorted((people[place] for place in pair[::-1]), key=lambda p: -p.prominence)
        frames = {sighting.frame for sighting in stays.sightings}
        more = [sighting for sighting in gone.sightings if sighting.frame not in frames]
        stays.sightings = sorted(stays.sightings + more, key=lambda s: s.frame)
        stays.vectors += gone.vectors
        people = [person for person in people if person is not gone]
    return people


def _together(one: Person, other: Person) -> bool:
    """Whether both are in one frame."""
    frames = {sighting.frame for sighting in one.sightings}
    return any(sighting.frame in frames for sighting in other.sightings)


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _shared(a: Sequence[float], b: Sequence[float]) -> float:
    """Area that two boxes have in common."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)
