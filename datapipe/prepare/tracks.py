"""Tracks: a face followed through sampled frames of one shot, with what was seen at each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from datapipe.faces.base import Face
from datapipe.prepare.people import RELIABLE_YAW, iou

REACH = 0.75
"""Seconds after which a face that was not seen is no longer waited for."""
OVERLAP = 0.2
"""Intersection over union of two sightings of one face, at least; or they are near:"""
NEAR = 0.7
"""Distance of their middles in sides of the face, at most."""
ALIKE = 1.7
"""How many times larger one of them may then be."""
AGAIN = 4.0
"""Seconds after which a track's face is embedded again."""
STRAIGHTER = 25.0
"""Degrees by which a face must look straighter than all before to be embedded at once."""
BEST = 4
"""Embeddings that count of a track: those of its straightest faces."""
STRANGER = 0.2
"""Cosine to the track's own under which an embedding shows another person in the same place."""

Vector = npt.NDArray[np.float32]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One face in one sampled frame."""

    frame: int
    time: float
    face: Face
    """In pixels of the full-size frame."""
    sharpness: float | None
    """None where the sampled picture is too small to tell."""

    @property
    def turn(self) -> float:
        """Degrees from frontal, yaw foremost."""
        pose = self.face.pose
        return 180.0 if pose is None else abs(pose.yaw) + abs(pose.pitch) / 2

    @property
    def reliable(self) -> bool:
        """Whether a recogniser can judge it."""
        return self.face.pose is not None and abs(self.face.pose.yaw) <= RELIABLE_YAW


@dataclass(slots=True, eq=False)
class Track:
    """Looks at one person in one shot, in order of time."""

    shot: int
    looks: list[Look]
    embedded: list[tuple[Look, Vector]] = field(default_factory=list)

    @property
    def last(self) -> Look:
        return self.looks[-1]

    @property
    def vector(self) -> Vector | None:
        """The unit mean of the embeddings that count; None where no face could be judged."""
        if not self.embedded:
            return None
        best = sorted(self.embedded, key=lambda pair: (pair[0].turn, pair[0].time))[:BEST]
        mean = np.mean([vector for _, vector in best], axis=0)
        unit: Vector = mean / max(float(np.linalg.norm(mean)), 1e-9)
        return unit

    def wants_embedding(self, look: Look) -> bool:
        """Whether this look tells more of who it is than those that were embedded."""
        if not look.reliable:
            return False
        if not self.embedded:
            return True
        straightest = min(seen.turn for seen, _ in self.embedded)
        since = look.time - self.embedded[-1][0].time
        return look.turn < straightest - STRAIGHTER or since >= AGAIN

    def meets(self, other: Track) -> bool:
        """Whether both are seen in one frame."""
        frames = {look.frame for look in self.looks}
        return any(look.frame in frames for look in other.looks)


Embed = Callable[[Face], Vector]
"""The embedding of a face of the frame at hand."""


class Tracker:
    """Joins the faces of sampled frames to tracks, as they come in order of time."""

    def __init__(self) -> None:
        self.tracks: list[Track] = []
        self._open: list[Track] = []

    def add(self, shot: int, looks: Sequence[Look], embed: Embed) -> None:
        """Take the faces of the next sampled frame, which is in a shot."""
        self._open = [
            track
            for track in self._open
            if track.shot == shot and (not looks or looks[0].time - track.last.time <= REACH)
        ]
        free = list(looks)
        for _, track, look in self._pairs(looks):
            if look in free and track.last is not look and track.last.frame != look.frame:
                free.remove(look)
                self._continue(track, look, embed)
        for look in free:
            self._begin(shot, look, embed)

    def _pairs(self, looks: Sequence[Look]) -> list[tuple[float, Track, Look]]:
        """What may belong together, the surest first."""
        pairs = [
            (closeness(track.last.face.box, look.face.box), track, look)
            for track in self._open
            for look in looks
        ]
        return sorted((p for p in pairs if p[0] > 0), key=lambda pair: -pair[0])

    def _begin(self, shot: int, look: Look, embed: Embed, vector: Vector | None = None) -> None:
        track = Track(shot, [look])
        if vector is None and track.wants_embedding(look):
            vector = embed(look.face)
        if vector is not None:
            track.embedded.append((look, vector))
        self.tracks.append(track)
        self._open.append(track)

    def _continue(self, track: Track, look: Look, embed: Embed) -> None:
        if not track.wants_embedding(look):
            track.looks.append(look)
            return
        vector, own = embed(look.face), track.vector
        if own is not None and float(vector @ own) < STRANGER:
            # someone else, since some moment after the last embedding: those looks are nobody's
            known = track.embedded[-1][0].time
            track.looks = [seen for seen in track.looks if seen.time <= known]
            self._open.remove(track)
            self._begin(track.shot, look, embed, vector)
            return
        track.looks.append(look)
        track.embedded.append((look, vector))


def closeness(before: Box, now: Box) -> float:
    """How likely two boxes of successive samples are one face's: 0 impossible, above 1 certain."""
    overlap = iou(before, now)
    if overlap >= OVERLAP:
        return 1 + overlap
    sides = [((b[2] - b[0]) + (b[3] - b[1])) / 2 for b in (before, now)]
    across, down = ((now[i] + now[i + 2] - before[i] - before[i + 2]) / 2 for i in (0, 1))
    away = float(np.hypot(across, down)) / max(sides)
    if away > NEAR or max(sides) > ALIKE * min(sides):
        return 0.0
    return 1 - away


def recognise(
    tracks: Sequence[Track], people: Sequence[Vector], same_person: float
) -> dict[int, list[Track]]:
    """Each person's tracks, by their place in `people`.

    A track is whose mean embedding is the most alike, from `same_person` on; of two tracks that
    are seen at once only one can be a person's. A track that no recogniser can judge is whose it
    follows at once, in the same place.
    """
    mine: dict[int, list[Track]] = {place: [] for place in range(len(people))}
    rated = []
    for track in tracks:
        vector = track.vector
        if vector is not None and people:
            cosines = [float(vector @ person) for person in people]
            best = int(np.argmax(cosines))
            if cosines[best] >= same_person:
                rated.append((cosines[best], best, track))
    for _, person, track in sorted(rated, key=lambda one: -one[0]):
        if not any(track.meets(other) for other in mine[person]):
            mine[person].append(track)
    for track in tracks:
        if track.vector is None:
            _follow(track, mine)
    return {place: sorted(own, key=lambda t: t.looks[0].time) for place, own in mine.items()}


def _follow(track: Track, mine: dict[int, list[Track]]) -> None:
    """Give a track of a face that nobody can judge to the one it continues, or who continues it."""
    for own in mine.values():
        for other in own:
            first, second = sorted((track, other), key=lambda t: t.looks[0].time)
            gap = second.looks[0].time - first.last.time
            near = closeness(first.last.face.box, second.looks[0].face.box) > 0
            if track.shot == other.shot and 0 < gap <= 2 * REACH and near:
                if not any(track.meets(some) for some in own):
                    own.append(track)
                return
