"""Joint counts: how many pictures share the same bins in every check, and which ones a sample has.

A cell is one combination of bins. Thousands of cells stand for millions of views, and whatever the
sliders are set to, a view's fate is that of its cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from datapipe.inspect.report.plan import Check, Plan
from datapipe.inspect.report.stops import (
    Codes,
    Floats,
    pack,
    position,
    strictness,
    thin_out,
    thinned,
    unpack,
)

MOST_CELLS = 350_000
"""In the report, over all yaws: some 2 MB. Where a run has more, sliders get fewer stops."""
MOST_WHILE_READING = 6_000_000
ABSENT = -1
"""The code of a view that an identity does not have."""


@dataclass
class _Group:
    """The pictures that go through the same checks: the references, or the views at a yaw."""

    checks: tuple[Check, ...]
    codes: Codes = field(default_factory=lambda: np.empty(0, np.int64))
    counts: Codes = field(default_factory=lambda: np.empty(0, np.int64))

    def add(self, codes: Codes, counts: Codes) -> None:
        joined = np.concatenate([self.codes, codes])
        self.codes, where = np.unique(joined, return_inverse=True)
        weights = np.concatenate([self.counts, counts])
        # exact: sums of counts stay far below 2**53
        self.counts = np.bincount(where, weights, len(self.codes)).astype(np.int64)


class Joint:
    """Counts identities as they come; keeps a sample of them whole."""

    def __init__(self, plan: Plan, stops: Sequence[Floats]) -> None:
        self.plan = plan
        self.stops = list(stops)
        self.groups = [_Group(plan.references), *(_Group(plan.views[yaw]) for yaw in plan.yaws)]
        self._sampled: list[Codes] = []

    @property
    def cells(self) -> int:
        return sum(len(group.codes) for group in self.groups)

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

    def code(self, group: int, detected: NDArray[np.bool_], columns: Sequence[Codes]) -> Codes:
        assert len(columns) == len(self.groups[group].checks)
        return pack(detected, columns)

    def add(self, codes: Codes, sampled: NDArray[np.bool_]) -> None:
        """Count identities by their codes, (identities, groups); keep those that are sampled."""
        for index, group in enumerate(self.groups):
            present = codes[:, index] != ABSENT
            group.add(*np.unique(codes[present, index], return_counts=True))
        self._sampled.append(codes[sampled])
        self.shrink(MOST_WHILE_READING)

    def shrink(self, most: int) -> None:
        """Take stops away, from the slider that has most of them first, until so few cells are
        left. The rules' own thresholds and the ends of the sliders always stay."""
        while self.cells > most:
            sizes = [len(stops) for stops in self.stops]
            widest = sizes.index(max(sizes))
            kept = thin_out(
                self.stops[widest], position(self.plan.thresholds[widest], self.stops[widest])
            )
            if kept.all():
                return
            self._thin(widest, kept)

    def _thin(self, threshold: int, kept: NDArray[np.bool_]) -> None:
        from_loosest = kept if self.plan.thresholds[threshold].stricter == "up" else kept[::-1]
        sampled = self.sampled
        for index, group in enumerate(self.groups):
            if all(check.threshold != threshold for check in group.checks):
                continue
            old = _Group(group.checks, group.codes, group.counts)
            group.codes, group.counts = old.codes[:0], old.counts[:0]
            group.add(self._recoded(group, old.codes, threshold, from_loosest), old.counts)
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
