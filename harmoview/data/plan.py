"""Which samples a phase trains on, and their order: a pure function of the seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from datapipe.errors import UserError, check_range
from harmoview.curriculum import Data, uniform
from harmoview.data.encoded import EncodedShards
from harmoview.encode.manifest import SCORES


def held_out(keys: Sequence[str], share: float, most: int) -> frozenset[int]:
    """Choose the numbers of the samples that are kept for validation, by a hash of their keys.

    They are the same whatever the seed, so that runs can be compared. A `share` above 0 gives at
    least one and at most `most`, but one sample is always left to train on.
    """
    wanted = min(most, math.ceil(len(keys) * share), len(keys) - 1)
    order = sorted(range(len(keys)), key=lambda number: uniform("held out", keys[number]))
    return frozenset(order[: max(0, wanted)])


def chosen(data: EncodedShards, which: Data, curated: float) -> list[int]:
    """Choose the numbers of the samples on which a phase trains.

    single_view takes all samples; multi_view those whose identities have a view besides the frontal
    one; curated the best share `curated` of these by their stored scores. Raises UserError where no
    sample has more than one view.
    """
    if which == "single_view":
        return list(range(len(data.keys)))
    views = data.column("views")
    multi = [int(number) for number in np.flatnonzero(views > 1)]
    if not multi:
        raise UserError(f"{data.folder.url} has no sample with more than one view")
    return multi if which == "multi_view" else best(data, multi, curated)


def best(data: EncodedShards, numbers: Sequence[int], share: float) -> list[int]:
    """Choose the best share of samples by the mean of their ranks in each score.

    Ranks are taken because the scores have no common scale; a score not measured ranks last.
    """
    total = np.zeros(len(numbers))
    for name in SCORES:
        values = data.column(name)[list(numbers)]
        order = np.argsort(-np.where(np.isnan(values), -np.inf, values), kind="stable")
        ranks = np.empty(len(numbers))
        ranks[order] = np.arange(len(numbers))
        total += ranks
    kept = np.argsort(total, kind="stable")[: math.ceil(len(numbers) * share)]
    return sorted(numbers[int(k)] for k in kept)


def plan_of(data: EncodedShards, numbers: Sequence[int], size: int, seed: int) -> BatchPlan:
    """Return the plan of these samples; `size` is that of a micro-batch."""
    columns = [data.column(name).tolist() for name in ("frames", "height", "width", "identities")]
    groups = list(zip(*columns, strict=True))
    keys = data.keys
    return BatchPlan({n: keys[n] for n in numbers}, {n: groups[n] for n in numbers}, size, seed)


BatchGroup = tuple[int, int, int, int]
"""What samples must share to fit into one batch: frames, height, width, identities."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """The samples of one forward pass."""

    epoch: int
    samples: tuple[int, ...]
    """Numbers in the index, all of one group."""


@dataclass(frozen=True)
class BatchPlan:
    """Every sample once an epoch, shuffled across all shards, in micro-batches of one group.

    The order depends on keys, seed and epoch alone and not on who reads it: micro-batch n is the
    same for any number of ranks and workers, and any of them can begin at any n. Where a group does
    not divide into micro-batches, its last one in an epoch is smaller.
    """

    keys: Mapping[int, str]
    """The samples of the plan by number."""
    groups: Mapping[int, BatchGroup]
    size: int
    """Samples in a micro-batch."""
    seed: int

    def __post_init__(self) -> None:
        if not self.keys:
            raise ValueError("there are no samples to plan for")
        check_range(self, "size", least=1, option="")

    def __len__(self) -> int:
        """Count the micro-batches of an epoch."""
        return sum(-(-len(members) // self.size) for members in self.members().values())

    def members(self) -> dict[BatchGroup, list[int]]:
        """Return the samples of each group."""
        found: dict[BatchGroup, list[int]] = {}
        for number in self.keys:
            found.setdefault(self.groups[number], []).append(number)
        return found

    def epoch(self, epoch: int) -> list[MicroBatch]:
        """Return the micro-batches of an epoch in their order."""
        order = sorted(
            self.keys, key=lambda number: (self._draw(epoch, self.keys[number]), self.keys[number])
        )
        waiting: dict[BatchGroup, list[int]] = {}
        done: list[MicroBatch] = []
        for number in order:
            batch = waiting.setdefault(self.groups[number], [])
            batch.append(number)
            if len(batch) == self.size:
                done.append(MicroBatch(epoch, tuple(batch)))
                batch.clear()
        # small ones are spread: at the end they would make steps of their own
        for rest in (tuple(batch) for _, batch in sorted(waiting.items()) if batch):
            place = int(self._draw(epoch, "rest", self.keys[rest[0]]) * (len(done) + 1))
            done.insert(place, MicroBatch(epoch, rest))
        return done

    def stream(self, start: int = 0) -> Iterator[MicroBatch]:
        """Yield micro-batches from number `start` on, epoch after epoch, without an end."""
        epoch, skip = divmod(start, len(self))
        while True:
            yield from self.epoch(epoch)[skip:]
            epoch, skip = epoch + 1, 0

    def _draw(self, epoch: int, *what: object) -> float:
        return uniform(self.seed, "order", epoch, *what)
