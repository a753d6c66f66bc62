"""Genuine and impostor comparisons at one |yaw|, and who must not be compared with whom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from filters.calibrate.intervals import Floats, Ints

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
