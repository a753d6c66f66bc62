"""Which samples a phase trains on, and their order: a pure function of the seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count

import numpy as np
from numpy.typing import NDArray

from datapipe.errors import UserError, check_range
from harmoview.curriculum import Data, uniform
from harmoview.data.encoded import EncodedShards
from harmoview.encode.manifest import SCORES, clip_of, span_of


def held_out(keys: Sequence[str], share: float, most: int) -> frozenset[int]:
    """Choose the numbers of the samples that are kept for validation, by a hash of their clips.

    They are the same whatever the seed, so that runs can be compared. All windows of a clip are on
    one side. A `share` above 0 gives at least one and at most `most` clips, but one is always left
    to train on. A clip that is in several folders is held out in all of them.
    """
    clips = sorted({clip_of(key) for key in keys}, key=lambda clip: uniform("held out", clip))
    wanted = min(most, math.ceil(len(clips) * share), len(clips) - 1)
    chosen = set(clips[: max(0, wanted)])
    return frozenset(number for number, key in enumerate(keys) if clip_of(key) in chosen)


def chosen(data: EncodedShards, which: Data, curated: float, folders: Sequence[int]) -> list[int]:
    """Choose the numbers of the samples of some folders on which a phase trains.

    single_view takes all samples; multi_view those whose identities have a view besides the frontal
    one; curated the best share `curated` of these by their stored scores. Raises UserError where no
    sample has more than one view.
    """
    here = np.flatnonzero(np.isin(data.column("folder"), folders))
    if which == "single_view":
        return [int(number) for number in here]
    views = data.column("views")
    multi = [int(number) for number in here if views[number] > 1]
    if not multi:
        names = ", ".join(data.folders[one].url for one in folders)
        raise UserError(f"{names}: no sample there has more than one view")
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


def plan_of(
    data: EncodedShards,
    numbers: Sequence[int],
    size: int,
    seed: int,
    step: int = 1,
    weights: Mapping[int, float] | None = None,
) -> BatchPlan:
    """Return the plan of these samples; `size` is that of a micro-batch, of which `step` are one.

    `weights` says by folder how often an epoch has its samples; without it, each once.
    """
    columns = [data.column(name).tolist() for name in ("frames", "height", "width", "identities")]
    groups = list(zip(*columns, strict=True))
    folders = data.column("folder").tolist()
    keys = data.keys
    return BatchPlan(
        {n: keys[n] for n in numbers}, {n: groups[n] for n in numbers}, size, seed, step,
        {n: folders[n] for n in numbers}, weights or {},
    )  # fmt: skip


BatchGroup = tuple[int, int, int, int]
"""What samples must share to fit into one batch: frames, height, width, identities."""
GOLDEN = (math.sqrt(5) - 1) / 2
"""The step of a sequence that fills 0..1 as evenly as one can, however long it is."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """The samples of one forward pass."""

    epochs: tuple[int, ...]
    """How often each sample's group has been gone through before."""
    samples: tuple[int, ...]
    """Numbers in the index, all of one group."""


@dataclass(frozen=True)
class BatchPlan:
    """The order in which samples are trained on, without an end, in steps of equal work.

    All micro-batches of a step are of one group, so that no worker waits for another that has a
    longer clip or more people. Each group is an endless list, epoch after epoch, each of them
    shuffled across all shards, and a step takes the next samples of one: groups come in proportion
    to their samples, as evenly as can be, and nothing need divide. In an epoch a group has each of
    its samples once, or as often as its folder's weight says: with .5 another half each time.
    Where a span is there with several sets of references (`pack --references both`), they count as
    one sample and take turns.

    The order depends on keys, seed and step alone and not on who reads it: micro-batch n is the
    same for any number of ranks and workers, and any of them can begin at any n.
    """

    keys: Mapping[int, str]
    """The samples of the plan by number."""
    groups: Mapping[int, BatchGroup]
    size: int
    """Samples in a micro-batch."""
    seed: int
    step: int = 1
    """Micro-batches in a step."""
    folders: Mapping[int, int] = field(default_factory=dict)
    weights: Mapping[int, float] = field(default_factory=dict)
    """How often an epoch has the samples of a folder; 1 where nothing is said."""

    def __post_init__(self) -> None:
        """Raises ValueError for a plan without samples, or sizes below 1."""
        if not self.keys:
            raise ValueError("there are no samples to plan for")
        check_range(self, "size", "step", least=1, option="")

    @cached_property
    def members(self) -> dict[BatchGroup, list[int]]:
        """The samples of each group."""
        found: dict[BatchGroup, list[int]] = {}
        for number in self.keys:
            found.setdefault(self.groups[number], []).append(number)
        return dict(sorted(found.items()))

    @cached_property
    def _parts(self) -> dict[BatchGroup, list[tuple[list[list[int]], int]]]:
        """By group, each folder's spans in a fixed random order, and how many an epoch has; of a
        span the numbers of the samples, one for each set of references, in such an order too."""
        found = {}
        for group, numbers in self.members.items():
            by_folder: dict[int, dict[str, list[int]]] = {}
            for number in sorted(numbers, key=lambda n: (self._draw("cycle", self.keys[n]), n)):
                spans = by_folder.setdefault(self.folders.get(number, 0), {})
                spans.setdefault(span_of(self.keys[number]), []).append(number)
            found[group] = [
                (list(spans.values()), max(1, round(len(spans) * self.weights.get(folder, 1.0))))
                for folder, spans in sorted(by_folder.items())
            ]
        return found

    def length(self, group: BatchGroup) -> int:
        """Count the samples of a group in an epoch, each with one set of references."""
        return sum(count for _, count in self._parts[group])

    def epoch(self, group: BatchGroup, epoch: int) -> list[int]:
        """Return the samples of a group in an epoch, in their order."""
        numbers = []
        for spans, length in self._parts[group]:
            for place in range(epoch * length, (epoch + 1) * length):
                turn, which = divmod(place, len(spans))
                numbers.append(spans[which][turn % len(spans[which])])
        draws = [self._draw("order", epoch, k, self.keys[n]) for k, n in enumerate(numbers)]
        return [n for _, n in sorted(zip(draws, numbers, strict=True))]

    def stream(self, start: int = 0) -> Iterator[MicroBatch]:
        """Yield micro-batches from number `start` on, without an end."""
        step, skip = divmod(start, self.step)
        groups = list(self.members)
        done = np.bincount(self._groups_of(np.arange(step)), minlength=len(groups))
        lists = [_EndlessGroup(self, group) for group in groups]
        for number in count(step):
            (place,) = self._groups_of(np.array([number]))
            first = int(done[place]) * self.step
            for batch in range(first + skip, first + self.step):
                yield lists[place].micro_batch(batch)
            done[place] += 1
            skip = 0

    def _groups_of(self, steps: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which group each step has."""
        where = (self._draw("steps") + steps * GOLDEN) % 1.0 * self._ends[-1]
        places: NDArray[np.int64] = np.searchsorted(self._ends, where, side="right")
        return places

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        """The samples of an epoch up to each group."""
        ends: NDArray[np.int64] = np.cumsum([self.length(group) for group in self.members])
        return ends

    def _draw(self, *what: object) -> float:
        return uniform(self.seed, *what)


class _EndlessGroup:
    """A group's samples, epoch after epoch; the last epoch asked for is kept."""

    def __init__(self, plan: BatchPlan, group: BatchGroup) -> None:
        self._plan, self._group, self._length = plan, group, plan.length(group)
        self._epoch: tuple[int, list[int]] = (-1, [])

    def micro_batch(self, number: int) -> MicroBatch:
        size = self._plan.size
        places = [
            divmod(place, self._length) for place in range(number * size, (number + 1) * size)
        ]
        samples = []
        for epoch, place in places:
            if self._epoch[0] != epoch:
                self._epoch = (epoch, self._plan.epoch(self._group, epoch))
            samples.append(self._epoch[1][place])
        return MicroBatch(tuple(epoch for epoch, _ in places), tuple(samples))
