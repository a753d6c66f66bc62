"""The Progressive View Curriculum: what each of its four phases trains on, shows and changes."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.resources import files
from typing import Any, Literal, NamedTuple, get_args

from datapipe.errors import check_range, meant
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
class NoiseLevels:
    """How noise levels are drawn in a phase, inside an expert's range; see `flow.NoiseSchedule`.

    Raises ValueError for a value out of its range.
    """

    distribution: Literal["logit_normal", "uniform"] = "logit_normal"
    shift: float | None = None
    """None follows the size of the video."""
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if self.distribution not in ("logit_normal", "uniform"):
            raise ValueError(f"distribution is logit_normal or uniform, not {self.distribution!r}")
        check_range(self, "shift", "std", above=0, option="")


@dataclass(frozen=True, slots=True)
class DataFolder:
    """A folder of encoded shards of a phase. Raises ValueError for a weight that cannot be."""

    path: str
    weight: float = 1.0
    """How often an epoch has its samples: 2 twice, .5 half of them, another half each time."""

    def __post_init__(self) -> None:
        check_range(self, "weight", above=0, option="")


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase (the paper's stage) of the curriculum. Raises ValueError for what cannot be."""

    data: Data
    views: ViewDropout
    steps: int
    learning_rate: float = 1e-5
    """Of Wan's own weights."""
    lora_learning_rate: float = 1e-4
    new_parts_learning_rate: float = 1e-4
    train_set: TrainSet = "full"
    curated: float = 0.3
    """The share of multi-view samples, the best by their stored scores, of the curated data."""
    shards: tuple[DataFolder, ...] = ()
    """The folders of the data; none are the command's SHARDS."""
    guidance: GuidanceDropout = field(default_factory=GuidanceDropout)
    noise: NoiseLevels = field(default_factory=NoiseLevels)

    def __post_init__(self) -> None:
        if self.data not in get_args(Data):
            raise ValueError(f"data is {', '.join(get_args(Data))}, not {self.data!r}")
        check_train_set(self.train_set)
        check_range(self, "steps", least=0, option="")
        rates = ("learning_rate", "lora_learning_rate", "new_parts_learning_rate")
        check_range(self, *rates, above=0, option="")
        check_range(self, "curated", above=0, most=1, option="")


def phase_of(table: Mapping[str, Any]) -> Phase:
    """Make a phase of a [[phase]] table. Raises ValueError naming what is wrong in it."""
    given = dict(table)
    known = {each.name for each in fields(Phase)} | {"keep_frontal"}
    if unknown := sorted(given.keys() - known):
        raise ValueError(f"a phase has no {unknown[0]}; {meant(unknown[0], known)}")
    if missing := [name for name in ("data", "steps", "views") if name not in given]:
        raise ValueError(f"{missing[0]} is missing")
    try:
        counts = {int(number): float(weight) for number, weight in given.pop("views").items()}
        keep = {"keep_frontal": given.pop("keep_frontal")} if "keep_frontal" in given else {}
        views = ViewDropout(counts, **keep)
        for name, part in (("guidance", GuidanceDropout), ("noise", NoiseLevels)):
            if name in given:
                given[name] = part(**given[name])
        if "shards" in given:
            given["shards"] = _folders(given["shards"])
        return Phase(views=views, **given)
    except (TypeError, AttributeError) as wrong:  # a text for a number, a number for a table
        raise ValueError(str(wrong)) from wrong


def _folders(given: Any) -> tuple[DataFolder, ...]:
    """Read a path, or a list of paths and of tables with path and weight. Raises ValueError."""
    each = given if isinstance(given, list) else [given]
    if not each or not all(isinstance(one, (str, dict)) for one in each):
        raise ValueError(f"shards is a path, or a list of paths and of tables, not {given!r}")
    return tuple(DataFolder(one) if isinstance(one, str) else DataFolder(**one) for one in each)


PHASES = tuple(
    phase_of(table)
    for table in tomllib.loads(
        files("harmoview").joinpath("curriculum.toml").read_text(encoding="utf-8")
    )["phase"]
)
"""The default curriculum, in `curriculum.toml`."""


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
