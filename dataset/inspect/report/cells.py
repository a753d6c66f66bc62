"""Joint counts: how many pictures share the same bins in every check, and which ones a sample has.

A cell is one combination of bins. Thousands of cells stand for millions of views, and whatever the
sliders are set to, a view's fate is that of its cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dataset.inspect.report.bins import (
    Codes,
    Floats,
    pack,
    position,
    strictness,
    thin_out,
    thinned,
    unpack,
)
from dataset.inspect.report.plan import Check, Plan

MOST_CELLS = 1_600_000
"""In the report, over all yaws: some 3 MB. Where a run has more, sliders get fewer stops."""
MOST_WHILE_READING = 6_000_000
ABSENT = -1
"""The code of a view that an identity does not have."""


@dataclass
class _Group:
    """The pictures that go through the same checks: the references, or the views at a yaw."""

    checks: tuple[Check, ...]
    codes: Codes = field(default_factory=lambda: np.empty(0, np.int64))
    counts: Codes = field(default_factory=lambda: np.empty(0, np.int64))
    _new: list[tuple[Codes, Codes]] = field(default_factory=list)

    def add(self, codes: Codes, counts: Codes) -> None:
        """Count codes; `merge` comes when enough are waiting."""
        self._new.append((codes, counts))
        if sum(len(new) for new, _ in self._new) > max(len(self.codes), 100_000):
            self.merge()

    def merge(self) -> None:
        if not self._new:
            return
        codes, counts = zip((self.codes, self.counts), *self._new, strict=True)
        self.codes, where = np.unique(np.concatenate(codes), return_inverse=True)
        # exact: sums of counts stay far below 2**53
        weights = np.concatenate(counts)
        self.counts = np.bincount(where, weights, len(self.codes)).astype(np.int64)
        self._new = []

    def recode(self, codes: Codes) -> None:
        """Other codes for the cells; cells that now share one become one."""
        self._new = [(codes, self.counts)]
        self.codes, self.counts = codes[:0], self.counts[:0]
        self.merge()


class Joint:
    """Counts identities as they come; keeps a sample of them whole."""

    def __init__(self, plan: Plan, stops: Sequence[Floats]) -> None:
        self.plan = plan
        self.stops = list(stops)
        self.groups = [_Group(plan.references), *(_Group(plan.views[yaw]) for yaw in plan.yaws)]
        self._sampled: list[Codes] = []

    @property
    def cells(self) -> int:
        """How many; while identities are still being added, about."""
        return sum(len(group.codes) for group in self.groups)

    def finish(self, most: int) -> None:
        """All is counted: no more than about so many cells."""
        for group in self.groups:
            group.merge()
        self.shrink(most)

    @property
    def sampled(self) -> Codes:
        """The codes of the sampled identities, (identities, groups)."""
        empty = np.empty((0, len(self.groups)), np.int64)
        return np.concatenate([empty, *self._sampled])

    def at(self) -> list[list[int]]:
        """For each group, the rules' own stops of its checks, counted from the loosest."""
        levels = [
            strictness(threshold, stops, position(threshold, stops))
            for threshold, stops in zip(self.plan.thresholds, self.stops, strict=True)
        ]
        return [[levels[check.threshold] for check in group.checks] for group in self.groups]

    def add(self, group: int, cells: Codes, counts: Codes) -> None:
        """Count pictures by their cells."""
        present = cells != ABSENT
        self.groups[group].add(cells[present], counts[present])

    def hold(self, codes: Codes) -> None:
        """Keep identities whole: their codes, (identities, groups)."""
        self._sampled.append(codes)

    def shrink(self, most: int) -> None:
        """Take stops away until so few cells are left, always in the group that has most of them.

        The rules' own thresholds and the ends of the sliders stay.
        """
        while self.cells > most:
            for group in self.groups:
                group.merge()
            largest = max(self.groups, key=lambda group: len(group.codes))
            for threshold in self._finest_first(largest):
                stops = self.stops[threshold]
                kept = thin_out(stops, position(self.plan.thresholds[threshold], stops))
                if not kept.all():
                    self._thin(threshold, kept)
                    break
            else:
                return

    def _finest_first(self, group: _Group) -> list[int]:
        """The thresholds of a group; those with most stops for what was wanted come first."""

        def fineness(threshold: int) -> float:
            return len(self.stops[threshold]) / self.plan.thresholds[threshold].steps

        return sorted({check.threshold for check in group.checks}, key=fineness, reverse=True)

    def _thin(self, threshold: int, kept: NDArray[np.bool_]) -> None:
        from_loosest = kept if self.plan.thresholds[threshold].stricter == "up" else kept[::-1]
        sampled = self.sampled
        for index, group in enumerate(self.groups):
            if all(check.threshold != threshold for check in group.checks):
                continue
            group.recode(self._recoded(group, group.codes, threshold, from_loosest))
            present = sampled[:, index] != ABSENT
            codes = sampled[present, index]
            sampled[present, index] = self._recoded(group, codes, threshold, from_loosest)
        self._sampled = [sampled]
        self.stops[threshold] = self.stops[threshold][kept]

    @staticmethod
    def _recoded(group: _Group, codes: Codes, threshold: int, kept: NDArray[np.bool_]) -> Codes:
        face, *rows = unpack(codes, len(group.checks))
        columns = [
            thinned(row, kept) if check.threshold == threshold else row
            for check, row in zip(group.checks, rows, strict=True)
        ]
        return pack(face > 0, columns)
