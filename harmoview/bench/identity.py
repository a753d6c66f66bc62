"""What the faces of a video say of its people: the `hv_` identity figures, without a model.

Every cosine is shown by yaw, because recognisers favour frontal faces: a person who never turns
scores higher than one who is shown truly from all sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from harmoview.bench.faces import Faces, KnownFaces
from harmoview.bench.scores import Status, VideoScore
from harmoview.bench.suite_json import Case

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

BINS = {"0-15": (0, 15), "15-45": (15, 45), "45-75": (45, 75), "75-90": (75, 181)}
"""Of |yaw| in degrees, from (included) to (excluded)."""
STANDARD = ("0-15", "15-45", "45-75")
"""The bins of `hv_face_std`: beyond, recognisers tell people apart no more."""
FEWEST = 3
"""Frames without which a bin has no part in `hv_face_std`."""
TURNED = 30
"""Degrees from which a reference shows another side than the frontal one."""
JUDGED_TO = 60.0
"""Degrees up to which crosstalk is measured."""
TOO_ALIKE = 0.8
"""Cosine between two people's references at which a mix of them cannot be taken apart."""
TOO_STRANGE = 0.3
"""Sum of cosines to both people under which a face is neither."""
AMBIGUOUS = 0.05
"""Margin of the assignment under which it may as well be the other way round."""
PASSING = 2
"""Sampled frames in which an unassigned face must be seen to count as an extra person."""


@dataclass(frozen=True, eq=False)
class Assigned:
    """Which track is which identity of the case."""

    rows: dict[int, Ints]
    """By the identity's place in the case: the rows of its faces."""
    extra: int
    margin: float | None
    """Mean cosine by which this assignment beats the exchanged one; None for a single identity."""


def identity_scores(faces: Faces, known: KnownFaces, case: Case) -> list[VideoScore]:
    """All figures of a video's people."""
    places = [known.names.index(who.id) for who in case.identities]
    assigned = assign(faces, known, places)
    scores = list(_case_scores(faces, case, assigned))
    for number, who in enumerate(case.identities):
        rows = assigned.rows.get(number, np.empty(0, np.int64))
        person = _Person(who.id, faces, known, rows, places[number])
        scores += person.scores(case)
        others = [place for place in places if place != places[number]]
        scores.append(person.crosstalk(others[0] if others else None))
    return scores


def nearest_views(known: KnownFaces, identity: int, yaw: npt.NDArray[np.floating]) -> Ints:
    """For each yaw, the place of the nearest reference in which a face was found.

    0 for a yaw that is NaN.
    """
    there = np.flatnonzero(~np.isnan(known.vectors[identity, :, 0]))
    slots = np.array(known.yaws, float)[there]
    distance = np.abs(np.nan_to_num(np.asarray(yaw, float))[:, None] - slots[None, :])
    return np.asarray(there[distance.argmin(axis=1)], np.int64)


def assign(faces: Faces, known: KnownFaces, places: list[int]) -> Assigned:
    """Give tracks to identities so that the summed nearest-yaw cosines are largest.

    Each identity gets one track at most; what is left over is an extra person.
    """
    tracks = np.unique(faces.track)
    if not len(tracks):
        return Assigned({}, 0, None)
    alike = np.stack([_nearest_cosines(faces, known, place) for place in places], axis=1)
    sums = np.stack([alike[faces.track == track].sum(axis=0) for track in tracks])
    chosen, given = linear_sum_assignment(-sums)
    rows = {
        int(number): np.flatnonzero(faces.track == tracks[track])
        for track, number in zip(chosen, given, strict=True)
    }
    counts = np.array([(faces.track == track).sum() for track in tracks])
    left = [t for t in range(len(tracks)) if t not in chosen and counts[t] >= PASSING]
    margin = None
    if len(places) == 2:
        right = sum(sums[t, n] for t, n in zip(chosen, given, strict=True))
        exchanged = sum(sums[t, 1 - n] for t, n in zip(chosen, given, strict=True))
        margin = float((right - exchanged) / counts[chosen].sum())
    return Assigned(rows, len(left), margin)


def _nearest_cosines(faces: Faces, known: KnownFaces, identity: int) -> Floats:
    """(faces,) to the reference of the nearest yaw; to the likeliest where no yaw was measured."""
    all_ = faces.cosines[:, identity].astype(float)
    nearest = nearest_views(known, identity, faces.yaw)
    chosen = all_[np.arange(len(all_)), nearest]
    unknown = np.isnan(faces.yaw)
    if unknown.any():
        chosen[unknown] = np.nanmax(all_[unknown], axis=1)
    return np.asarray(chosen)


def _case_scores(faces: Faces, case: Case, assigned: Assigned) -> Iterator[VideoScore]:
    """Figures of all people of a video together."""
    n = faces.sampled
    yield VideoScore("hv_extra_people", float(assigned.extra), n, n)
    if len(case.identities) < 2:
        for metric in ("hv_assign_margin", "hv_ambiguous", "hv_swapped"):
            yield VideoScore(metric, None, n, 0, status="not_applicable", reason="one person")
        return
    margin = assigned.margin
    none: Status = "ok" if margin is not None else "no_face"
    unsure = margin is not None and margin < AMBIGUOUS
    yield VideoScore("hv_assign_margin", margin, n, n, status=none, reason="ambiguous" * unsure)
    yield VideoScore("hv_ambiguous", None if margin is None else float(unsure), n, n, status=none)
    yield _swapped(faces, case, assigned)


def _swapped(faces: Faces, case: Case, assigned: Assigned) -> VideoScore:
    """Whether the people stand on each other's side: the assignment by faces cannot know."""
    n = faces.sampled
    wanted = [who.placement for who in case.identities]
    if None in wanted:
        return VideoScore("hv_swapped", None, n, 0, status="not_applicable", reason="no placement")
    middles = {
        number: float(faces.box[rows][:, [0, 2]].mean()) for number, rows in assigned.rows.items()
    }
    if len(middles) < 2:
        return VideoScore("hv_swapped", None, n, 0, status="no_face", reason="not both were found")
    on_left = min(middles, key=lambda number: middles[number])
    used = sum(len(rows) for rows in assigned.rows.values())
    return VideoScore("hv_swapped", float(wanted[on_left] != "left"), n, used)


@dataclass(frozen=True, eq=False)
class _Person:
    """One identity of a case, and the faces that were assigned to it."""

    name: str
    faces: Faces
    known: KnownFaces
    rows: Ints
    place: int
    """Among the suite's identities."""

    def scores(self, case: Case) -> Iterator[VideoScore]:
        n, used = self.faces.sampled, len(self.rows)
        yield self._score("hv_missing", float(used == 0))
        yield self._score("hv_detected", len(np.unique(self.faces.frame[self.rows])) / n)
        yaw = self.faces.yaw[self.rows].astype(float)
        yield from self._by_yaw(yaw, "")
        yield from self._span(case, yaw)
        yield self._mean("hv_rank1", self._ranks(yaw))
        yield self._mean("hv_sharpness", self.faces.sharpness[self.rows].astype(float))
        true = self.faces.true_yaw[self.rows].astype(float)
        if not np.isnan(self.faces.true_yaw).all():
            yield from self._by_yaw(true, "_true")

    def _by_yaw(self, yaw: Floats, suffix: str) -> Iterator[VideoScore]:
        """Cosines to the frontal and the nearest reference, all frames and by bin of |yaw|."""
        front, view, match = self._cosines(yaw)
        used = max(1, int((~np.isnan(yaw)).sum()))
        bins = {name: (abs(yaw) >= a) & (abs(yaw) < b) for name, (a, b) in BINS.items()}
        for metric, values in (("hv_face_front", front), ("hv_face_view", view)):
            yield self._mean(metric + suffix, values)
            for name, inside in bins.items():
                yield self._mean(metric + suffix, values[inside], name)
        for name, inside in bins.items():
            share = float(inside.sum() / used) if len(self.rows) else None
            yield self._score("hv_exposure" + suffix, share, name, int(inside.sum()))
        for name, inside in list(bins.items())[1:]:
            yield self._mean("hv_view_match" + suffix, match[inside], name)
        means = [float(view[bins[name]].mean()) for name in STANDARD if bins[name].sum() >= FEWEST]
        complete = len(means) == len(STANDARD)
        short = "" if complete else f"a bin up to 75° has fewer than {FEWEST} frames"
        value = float(np.mean(means)) if complete else None
        yield self._score("hv_face_std" + suffix, value, reason=short)

    def _cosines(self, yaw: Floats) -> tuple[Floats, Floats, Floats]:
        """To the frontal reference, to the nearest one, and how much more like the nearest one.

        The last is 1 for a copy of that view, 0 or less for frontal features on a turned head, NaN
        where the nearest view is about frontal.
        """
        cosines = self.faces.cosines[self.rows, self.place].astype(float)
        near = nearest_views(self.known, self.place, yaw)
        zero = int(nearest_views(self.known, self.place, np.zeros(1))[0])
        front, view = cosines[:, zero], cosines[np.arange(len(near)), near]
        view = np.where(np.isnan(yaw), np.nan, view)
        between = self.known.own[self.place, near, self.place, zero].astype(float)
        turned = abs(np.array(self.known.yaws)[near]) >= TURNED
        with np.errstate(divide="ignore", invalid="ignore"):
            match = np.where(turned, (view - front) / (1 - between), np.nan)
        return front, view, match

    def _span(self, case: Case, yaw: Floats) -> Iterator[VideoScore]:
        """How far the head turns, and how much of what was asked for."""
        measured = yaw[~np.isnan(yaw)]
        if not len(measured):
            for metric in ("hv_yaw_span", "hv_yaw_reached"):
                yield self._score(metric, None)
            return
        low, high = np.percentile(measured, [5, 95])
        yield self._score("hv_yaw_span", float(high - low))
        asked = case.yaw_request
        if asked is None or asked[0] == asked[1]:
            yield VideoScore(
                "hv_yaw_reached", None, self.faces.sampled, 0, self.name, "",
                "not_applicable", "the case requests no yaw",
            )  # fmt: skip
            return
        shared = max(0.0, min(high, asked[1]) - max(low, asked[0]))
        yield self._score("hv_yaw_reached", float(shared / (asked[1] - asked[0])))

    def _ranks(self, yaw: Floats) -> Floats:
        """1 for each face whose nearest identity of the whole suite is its own, else 0."""
        rows = self.faces.cosines[self.rows].astype(float)
        best = np.stack(
            [
                rows[np.arange(len(rows)), place, nearest_views(self.known, place, yaw)]
                for place in range(len(self.known.names))
            ],
            axis=1,
        )
        return np.asarray(best.argmax(axis=1) == self.place, float)

    def crosstalk(self, other: int | None) -> VideoScore:
        """How much of the other person is in this one: 0 none, 1 all; a linear mix reads its share.

        The mean over faces up to 60 degrees whose people can be told apart.
        """
        if other is None:
            return VideoScore(
                "hv_crosstalk", None, self.faces.sampled, 0, self.name, "",
                "not_applicable", "one person",
            )  # fmt: skip
        yaw = self.faces.yaw[self.rows].astype(float)
        near = nearest_views(self.known, self.place, yaw)
        theirs = nearest_views(self.known, other, np.array(self.known.yaws, float)[near])
        cosines = self.faces.cosines[self.rows].astype(float)
        each = np.arange(len(near))
        a, b = cosines[each, self.place, near], cosines[each, other, theirs]
        c = self.known.own[self.place, near, other, theirs].astype(float)
        sound = (abs(yaw) <= JUDGED_TO) & (c <= TOO_ALIKE) & (a + b >= TOO_STRANGE)
        return self._mean("hv_crosstalk", crosstalk(a, b, c)[sound])

    def _mean(self, metric: str, values: Floats, variant: str = "") -> VideoScore:
        kept = values[~np.isnan(values)]
        mean = float(kept.mean()) if len(kept) else None
        return self._score(metric, mean, variant, len(kept))

    def _score(
        self,
        metric: str,
        value: float | None,
        variant: str = "",
        used: int | None = None,
        reason: str = "",
    ) -> VideoScore:
        none = len(self.rows) == 0
        return VideoScore(
            metric=metric,
            value=value,
            n_frames=self.faces.sampled,
            n_used=len(self.rows) if used is None else used,
            identity=self.name,
            variant=variant,
            status="no_face" if none and value is None else "ok",
            reason="no face was assigned" if none and value is None else reason,
        )


def crosstalk(a: Floats, b: Floats, c: Floats) -> Floats:
    """The share λ of the other in a linear mix of two unit vectors, from three cosines.

    `a` and `b` are the face's cosines to its own and the other's reference, `c` that between both.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((b - c * a) / ((1 - c) * (a + b)))
