"""The order of training data: a pure function of the seed, cut into micro-batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harmoview.curriculum import uniform

Group = tuple[int, int, int, int]
"""Samples that fit in one batch: frames, height, width, identities."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """What one forward pass takes."""

    epoch: int
    samples: tuple[int, ...]
    """Numbers in the index, all of one group."""


@dataclass(frozen=True)
class Plan:
    """Every sample once an epoch, shuffled across all shards, in micro-batches of one group.

    The order depends on keys, seed and epoch alone, not on who reads it: micro-batch n is the same
    for any number of ranks and workers, and any of them can begin at any n. The last micro-batch
    of a group in an epoch is smaller where the group does not divide.
    """

    keys: Mapping[int, str]
    """The samples of the plan by number."""
    groups: Mapping[int, Group]
    size: int
    """Samples in a micro-batch."""
    seed: int

    def __post_init__(self) -> None:
        if not self.keys:
            raise ValueError("there are no samples to plan for")
        if self.size < 1:
            raise ValueError(f"a micro-batch has at least 1 sample, not {self.size}")

    def __len__(self) -> int:
        """Micro-batches in an epoch."""
        return sum(-(-len(members) // self.size) for members in self.members().values())

    def members(self) -> dict[Group, list[int]]:
        """The samples of each group."""
        found: dict[Group, list[int]] = {}
        for number in self.keys:
            found.setdefault(self.groups[number], []).append(number)
        return found

    def epoch(self, epoch: int) -> list[MicroBatch]:
        """The micro-batches of an epoch in their order."""
        order = sorted(
            self.keys, key=lambda number: (self._draw(epoch, self.keys[number]), self.keys[number])
        )
        waiting: dict[Group, list[int]] = {}
        done: list[MicroBatch] = []
        for number in order:
            batch = waiting.setdefault(self.groups[number], [])
            batch.append(number)
            if len(batch) == self.size:
                done.append(MicroBatch(epoch, tuple(batch)))
                batch.clear()
        # small ones are not left for the end, where they would make steps of their own
        for rest in (tuple(batch) for _, batch in sorted(waiting.items()) if batch):
            place = int(self._draw(epoch, "rest", self.keys[rest[0]]) * (len(done) + 1))
            done.insert(place, MicroBatch(epoch, rest))
        return done

    def stream(self, start: int = 0) -> Iterator[MicroBatch]:
        """Micro-batches from number `start` on, epoch after epoch, without an end."""
        epoch, skip = divmod(start, len(self))
        while True:
            yield from self.epoch(epoch)[skip:]
            epoch, skip = epoch + 1, 0

    def _draw(self, epoch: int, *what: object) -> float:
        return uniform(self.seed, "order", epoch, *what)
