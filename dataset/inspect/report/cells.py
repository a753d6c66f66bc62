"""Cells: how many pictures share the same bins in every check, and which ones a sample has.

A cell is one combination of bins. Thousands of cells stand for millions of views, and wherever the
sliders are set, a view's fate is that of its cell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dataset.inspect.report.bins import (
    ABSENT,
    Codes,
    Flags,
    Floats,
    PictureGroup,
    pack,
    picture_groups,
    position,
    strictness,
    thin_out,
    thinned,
    unpack,
)
from filters.checks import Check, RuleChecks, Threshold


class Cells:
    """The cells of every group of pictures, and the codes of some identities that are held whole.

    Sliders get fewer stops where there would be too many cells; the rules' own thresholds and both
    ends of the sliders always stay.
    """

    def __init__(self, checks: RuleChecks, stops: Sequence[Floats]) -> None:
        """`stops` are those of `checks.thresholds`, one for each."""
        self.checks = checks
        self.thresholds = checks.thresholds
        self.stops = list(stops)
        self.groups = picture_groups(checks)
        nothing = np.empty(0, np.int64)
        self.codes = [nothing for _ in self.groups]
        """The cells of each group, rising."""
        self.counts = [nothing for _ in self.groups]
        """How many pictures each cell has."""
        self.held: Codes = np.empty((0, len(self.groups)), np.int64)
        """The codes of the identities that are held, (identities, groups)."""
        self._place = {threshold: place for place, threshold in enumerate(self.thresholds)}

    def __len__(self) -> int:
        return sum(map(len, self.codes))

    def place(self, threshold: Threshold | None) -> int | None:
        """The place of a check's threshold among `thresholds`."""
        return None if threshold is None else self._place[threshold]

    def stops_of(self, check: Check) -> Floats:
        """The stops of a check's threshold; none where it has none."""
        place = self.place(check.threshold)
        return np.empty(0) if place is None else self.stops[place]

    def count(self, group: int, codes: Codes, counts: Codes) -> None:
        """Set how many pictures of a group have which codes."""
        self._merge(group, codes, counts)

    def hold(self, codes: Codes) -> None:
        """Set the identities that are held: their codes, (identities, groups)."""
        self.held = codes

    def find(self, codes: Codes) -> Codes:
        """The places among the cells of the codes of identities, (…, groups); -1 for views that are
        not there."""
        places = [
            np.where(column == ABSENT, -1, np.searchsorted(self.codes[group], column))
            for group, column in enumerate(np.moveaxis(codes, -1, 0))
        ]
        return np.stack(places, axis=-1)

    def levels(self, positions: Sequence[int] | None = None) -> list[list[int]]:
        """For each group, the stops of its checks, counted from the loosest, where the sliders are
        at these positions; by default, where the rules stand."""
        if positions is None:
            positions = [*map(position, self.thresholds, self.stops)]
        levels = [*map(strictness, self.thresholds, self.stops, positions)]
        places = ([self.place(check.threshold) for check in group.checks] for group in self.groups)
        return [[0 if place is None else levels[place] for place in row] for row in places]

    def shrink(self, most: int) -> None:
        """Take stops away until there are at most so many cells, always in the group that has most
        of them."""
        while len(self) > most:
            largest = max(range(len(self.groups)), key=lambda group: len(self.codes[group]))
            for place in self._finest_first(self.groups[largest]):
                stops = self.stops[place]
                kept = thin_out(stops, position(self.thresholds[place], stops))
                if not kept.all():
                    self._thin(place, kept)
                    break
            else:
                return

    def _finest_first(self, group: PictureGroup) -> list[int]:
        """The thresholds of a group; those with most stops for what was wanted come first."""

        def fineness(place: int) -> float:
            return len(self.stops[place]) / self.thresholds[place].steps

        return sorted(self._places(group), key=fineness, reverse=True)

    def _places(self, group: PictureGroup) -> set[int]:
        return {self._place[check.threshold] for check in group.checks if check.threshold}

    def _thin(self, place: int, kept: Flags) -> None:
        threshold = self.thresholds[place]
        from_loosest = kept if threshold.rejects_upwards else kept[::-1]
        for index, group in enumerate(self.groups):
            if place in self._places(group):
                recoded = _recoded(group, self.codes[index], threshold, from_loosest)
                self._merge(index, recoded, self.counts[index])
                held = self.held[:, index]
                self.held[:, index] = _recoded(group, held, threshold, from_loosest)
        self.stops[place] = self.stops[place][kept]

    def _merge(self, group: int, codes: Codes, counts: Codes) -> None:
        """Cells that share a code become one."""
        self.codes[group], where = np.unique(codes, return_inverse=True)
        # exact: sums of counts stay far below 2**53
        merged = np.bincount(where, counts, len(self.codes[group]))
        self.counts[group] = merged.astype(np.int64)


def _recoded(group: PictureGroup, codes: Codes, threshold: Threshold, kept: Flags) -> Codes:
    """Codes when only some stops of a threshold are kept; `ABSENT` stays."""
    absent = codes == ABSENT
    rows = unpack(np.where(absent, 0, codes), len(group.checks))
    for row, check in enumerate(group.checks):
        if check.threshold == threshold:
            rows[row] = thinned(rows[row], kept)
    return np.where(absent, ABSENT, pack([*rows]))
