"""Genuine and impostor comparisons at one |yaw|, and who must not be compared with whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

DECIMALS = 4
"""Of a cosine, as scores are stored and rules compare."""


@dataclass(frozen=True, eq=False)
class Embedded:
    """References and views of some identities, as one recogniser embeds them."""

    references: Any
    """Unit rows [N, D]."""
    owner: Any
    """For each view the row of its reference; int."""
    yaw: Any
    """For each view the yaw asked for, degrees."""
    views: Any
    """Unit rows [V, D]."""
    reference_yaw: int | None = None
    """The yaw at which an identity's view is its reference itself; such a pair says nothing."""


@dataclass(frozen=True, eq=False)
class People:
    """Which references may show one person."""

    label: Any
    """For each reference the number of its group, all of whom look alike; int."""
    alike: Any
    """[N, N] bool: pairs that are not compared as two people; also each with itself."""

    @property
    def groups(self) -> int:
        return int(self.label.max(initial=-1)) + 1


def people(references: Any, same_person: float) -> People:
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
    """Of people, in the whole sample."""
    genuine: Any
    """Of each view with its own reference [G]."""
    genuine_person: Any
    """Group of the identity [G]."""
    impostor: Any
    """Of each view with every other person's reference [I]."""
    reference_person: Any
    """Group of the reference's identity [I]."""
    view_person: Any
    """Group of the view's identity [I]."""
    alike: Any
    """Cosines that were left out, because the references look alike."""

    @property
    def people(self) -> int:
        """Groups with a view to compare."""
        return len(np.unique(self.view_person))


def comparisons(embedded: Embedded, who: People) -> list[Comparisons]:
    """By rising |yaw|."""
    angles = np.abs(embedded.yaw)
    return [_at(int(angle), angles == angle, embedded, who) for angle in np.unique(angles)]


def _at(angle: int, chosen: Any, embedded: Embedded, who: People) -> Comparisons:
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
