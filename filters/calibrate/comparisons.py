"""Genuine and impostor comparisons at one |yaw|, who must not be compared with whom, and shares.

Shares have 95 % confidence intervals where the unit that was drawn is a person, not a pair.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
CONFIDENCE = 0.95
LEAST_PEOPLE = 20
"""Under so many people the jackknife's variance is itself a guess."""


@dataclass(frozen=True, slots=True)
class Share:
    """An estimated share and its confidence interval, 0..1."""

    value: float
    low: float
    high: float


def share(hits: ArrayLike, count: ArrayLike) -> Share:
    """The share of all comparisons that hit, from the hits and the comparisons [G] of each person.

    Every comparison counts with the one person it belongs to.
    """
    hits, count = np.asarray(hits, float), np.asarray(count, float)
    return _jackknifed(hits.sum(), count.sum(), hits, count)


def crossed_share(hits: ArrayLike, count: ArrayLike) -> Share:
    """The same where every comparison counts with each of the two people that it compares."""
    hits, count = np.asarray(hits, float), np.asarray(count, float)
    return _jackknifed(hits.sum() / 2, count.sum() / 2, hits, count)


def _jackknifed(hits: float, count: float, own_hits: Floats, own_count: Floats) -> Share:
    left = count - own_count
    without = (hits - own_hits)[left > 0] / left[left > 0]
    return interval(float(hits / count), without)


def interval(value: float, without: Floats) -> Share:
    """The interval of a share from its values without each person in turn (delete-one jackknife).

    Korn and Graubard (Survey Methodology 24, 1998): Clopper-Pearson's interval of as many
    independent trials as have the jackknife's variance, corrected for its degrees of freedom. A
    share that no person changes (0 or 1) is worth one trial a person.
    """
    people = len(without)
    if people < 2:
        return Share(value, 0.0, 1.0)
    variance = (people - 1) / people * float(np.square(without - np.mean(without)).sum())
    trials = value * (1 - value) / variance if variance > 1e-15 else float(people)
    tail = (1 - CONFIDENCE) / 2
    trials *= (stats.norm.ppf(tail) / stats.t.ppf(tail, people - 1)) ** 2
    hits = value * trials
    low = float(stats.beta.ppf(tail, hits, trials - hits + 1)) if hits > 0 else 0.0
    high = float(stats.beta.ppf(1 - tail, hits + 1, trials - hits)) if hits < trials else 1.0
    return Share(value, min(low, value), max(high, value))


def people_needed(far: float) -> int:
    """The fewest people whose comparisons can tell a false-accept rate.

    Rule of three: had none of 3 / far independent comparisons been accepted, the rate would be
    under `far` with 95 % confidence. n people have n (n - 1) comparisons, at best independent.
    """
    return max(LEAST_PEOPLE, math.ceil((1 + math.sqrt(1 + 12 / far)) / 2))


Bools = NDArray[np.bool_]
DECIMALS = 4
"""Decimals of a cosine, as scores are stored and rules compare."""


@dataclass(frozen=True, eq=False)
class Embedded:
    """References and views of some identities, as one recogniser embeds them."""

    references: NDArray[np.float32]
    """Unit rows [N, D]."""
    owner: Ints
    """For each view the row of its reference [V]."""
    yaw: Ints
    """For each view the yaw asked for, degrees [V]."""
    views: NDArray[np.float32]
    """Unit rows [V, D]."""
    reference_yaw: int | None = None
    """The yaw at which an identity's view is its reference itself; such a pair says nothing."""


@dataclass(frozen=True, eq=False)
class People:
    """Which references may show one person."""

    label: Ints
    """For each reference the number of its group, all of whom look alike [N]."""
    alike: Bools
    """Pairs that are not compared as two people, each reference with itself too [N, N]."""

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return int(self.label.max(initial=-1)) + 1


def people(references: NDArray[np.float32], same_person: float) -> People:
    """References (unit rows) from a cosine of `same_person` on may show one person.

    Groups are those of complete linkage: every two of a group are alike, so that a chain of
    look-alikes does not become one. They are what is drawn at random, whatever number of videos
    someone is in. From a cosine of 1 on nobody is alike.
    """
    count = len(references)
    alike = np.eye(count, dtype=bool)
    if same_person >= 1 or count < 2:
        return People(np.arange(count), alike)
    cosine = np.clip(references @ references.T, -1, 1).astype(float)
    distance = 1 - (cosine + cosine.T) / 2
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "complete")
    label = fcluster(tree, 1 - same_person, "distance") - 1
    alike |= (1 - distance >= same_person) | (label[:, None] == label)
    return People(label, alike)


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Cosines at one |yaw|; both sides together."""

    yaw: int
    """|yaw|, degrees."""
    groups: int
    """Groups of people in the whole sample."""
    genuine: Floats
    """Cosines of each view with its own reference [G]."""
    genuine_person: Ints
    """Group of the identity [G]."""
    impostor: Floats
    """Cosines of each view with every other person's reference [I]."""
    reference_person: Ints
    """Group of the reference's identity [I]."""
    view_person: Ints
    """Group of the view's identity [I]."""
    alike: Floats
    """Cosines that were left out, because the references look alike."""

    @property
    def people(self) -> int:
        """How many groups have a view to compare."""
        return len(np.unique(self.view_person))


def comparisons(embedded: Embedded, who: People) -> list[Comparisons]:
    """The comparisons at each |yaw|, rising."""
    angles = np.abs(embedded.yaw)
    return [_at(int(angle), angles == angle, embedded, who) for angle in np.unique(angles)]


def _at(angle: int, chosen: Bools, embedded: Embedded, who: People) -> Comparisons:
    owner = embedded.owner[chosen]
    cosine = embedded.references.astype(float) @ embedded.views[chosen].astype(float).T
    cosine = np.round(cosine, DECIMALS)
    own = np.arange(len(embedded.references))[:, None] == owner
    alike = who.alike[:, owner]
    reference, view = np.nonzero(~alike)
    trivial = embedded.reference_yaw is not None and angle == abs(embedded.reference_yaw)
    at = np.arange(0) if trivial else np.arange(len(owner))
    return Comparisons(
        yaw=angle,
        groups=who.groups,
        genuine=cosine[owner[at], at],
        genuine_person=who.label[owner[at]],
        impostor=cosine[reference, view],
        reference_person=who.label[reference],
        view_person=who.label[owner[view]],
        alike=cosine[alike & ~own],
    )
