"""The Progressive View Curriculum: what each of its four phases trains on, shows and changes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from datapipe.errors import check_range
from harmoview.trainable import TrainSet, check_train_set

Data = Literal["single_view", "multi_view", "curated"]
"""Videos with the frontal references alone; with synthesised views; the best of the latter."""
SLOTS = 7
"""Slots for views of an identity."""


@dataclass(frozen=True, slots=True)
class ViewDropout:
    """How many views of an identity are shown, and which.

    First a number is drawn by `counts`, then a set of that many of the views that the sample has,
    each set being equally likely. With `keep_frontal` the frontal view is always in it; without, it
    may be dropped like any other, and its image features with it. Raises ValueError for numbers or
    weights that cannot be.
    """

    counts: Mapping[int, float]
    """Weight of each number of views; a sample with fewer shows what it has."""
    keep_frontal: bool = True

    def __post_init__(self) -> None:
        if not self.counts or min(self.counts) < 1 or max(self.counts) > SLOTS:
            raise ValueError(f"counts must name numbers of views 1..{SLOTS}: {dict(self.counts)}")
        if min(self.counts.values()) <= 0:
            raise ValueError(f"weights of counts must be positive: {dict(self.counts)}")


@dataclass(frozen=True, slots=True)
class GuidanceDropout:
    """How often a sample loses a condition altogether, so that guidance can do without it.

    View dropout does not do that, for it always shows a view; without references every slot is a
    proxy. The three cases exclude each other; otherwise a sample has both conditions. Raises
    ValueError for shares that are negative or more than 1 in all.
    """

    references: float = 0.05
    text: float = 0.05
    both: float = 0.05

    def __post_init__(self) -> None:
        shares = (self.references, self.text, self.both)
        if min(shares) < 0 or sum(shares) > 1:
            raise ValueError(f"shares of guidance dropout must be in 0..1 in all: {shares}")


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase (the paper's stage) of the curriculum. Raises ValueError for what cannot be."""

    data: Data
    views: ViewDropout
    steps: int
    learning_rate: float
    train: TrainSet = "full"
    guidance: GuidanceDropout = field(default_factory=GuidanceDropout)

    def __post_init__(self) -> None:
        check_train_set(self.train)
        check_range(self, "steps", least=0, option="")
        check_range(self, "learning_rate", above=0, option="")


PHASES = (
    # 1, single-view structure alignment: the frontal view alone
    Phase("single_view", ViewDropout({1: 1.0}), steps=20_000, learning_rate=1e-5),
    # 2, multi-view alignment: the frontal view alone, or all
    Phase("multi_view", ViewDropout({1: 0.5, 7: 0.5}), steps=10_000, learning_rate=1e-5),
    # 3, strategic view dropout: any number of any views, the frontal one among them
    Phase(
        "multi_view",
        ViewDropout(dict.fromkeys(range(1, 8), 1.0), keep_frontal=False),
        steps=10_000,
        learning_rate=1e-5,
    ),
    # 4, high-fidelity refinement: the best data, mostly complete
    Phase(
        "curated",
        ViewDropout({4: 0.1, 5: 0.1, 6: 0.2, 7: 0.6}),
        steps=3_000,
        learning_rate=5e-6,
    ),
)
"""Order, data and views are the paper's (3.2). It gives no probabilities, lengths or learning
rates; these are ours, and settings."""


class Shown(NamedTuple):
    """What a training step shows of a sample."""

    views: tuple[tuple[bool, ...], ...]
    """Whether each slot of each identity is shown; without references, none is."""
    text: bool
    """Whether the caption is shown."""


def shown(
    phase: Phase,
    available: Sequence[Sequence[bool]],
    *,
    frontal: int,
    seed: int,
    key: str,
    epoch: int,
) -> Shown:
    """Choose what a sample shows in an epoch: a pure function of seed, key and epoch.

    `available[i][v]` says whether identity i has view v, and `frontal` is the frontal slot. The
    choice is the same on every machine and with every version, because it hashes and does not ask
    the generator of a library. Raises ValueError where an identity that must keep its frontal view
    has none.
    """
    where = (seed, key, epoch)
    rest = phase.guidance
    case = uniform(*where, "guidance")
    no_text = rest.references <= case < rest.references + rest.text + rest.both
    no_references = case < rest.references or (
        rest.references + rest.text <= case < rest.references + rest.text + rest.both
    )
    views = tuple(
        tuple(False for _ in slots)
        if no_references
        else choose_views(phase.views, slots, frontal, (*where, identity))
        for identity, slots in enumerate(available)
    )
    return Shown(views, not no_text)


def choose_views(
    dropout: ViewDropout, slots: Sequence[bool], frontal: int, where: tuple[object, ...]
) -> tuple[bool, ...]:
    """Choose the slots of one identity that are shown; `where` is seed, key, epoch and identity.

    Raises ValueError where the frontal view must be kept and is absent.
    """
    if dropout.keep_frontal and not slots[frontal]:
        raise ValueError(f"sample {where[1]} has no frontal view of identity {where[-1]}")
    count = _draw(dropout.counts, uniform(*where, "count"))
    # a random order of the slots: its first `count` are a uniformly random set of that size
    order = sorted(
        (slot for slot, there in enumerate(slots) if there),
        key=lambda slot: (
            not (dropout.keep_frontal and slot == frontal),
            uniform(*where, "slot", slot),
        ),
    )
    kept = set(order[:count])
    return tuple(slot in kept for slot in range(len(slots)))


def _draw(weights: Mapping[int, float], level: float) -> int:
    """Return the value whose share of the summed weights contains `level`, 0..1."""
    threshold = level * sum(weights.values())
    values = sorted(weights)
    for value in values:
        threshold -= weights[value]
        if threshold < 0:
            return value
    return values[-1]  # only if rounding has made the sum smaller


def uniform(*what: object) -> float:
    """Return a number from 0 to below 1 that depends on the arguments alone."""
    text = "\x1f".join(map(str, what)).encode()
    bits = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
    return (bits >> 11) / 2**53
