"""Which of a decoder's pictures are clean: what rests on what, and what went wrong."""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Iterator
from typing import Any

from datapipe.video.table import Table

REORDERED = 20
"""Frames that may come out of a decoder before one that went in earlier; H.264 allows 16."""


class Judge:
    """Watches a decoder and tells which of its pictures are clean."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self.harm: list[float] = []
        """Rows where something went wrong that others rest on, ascending; between two, where one
        is missing."""
        self._seen: set[int] = set()  # rows that came out
        self._lost: set[int] = set()  # rows where something went wrong that nothing rests on
        self._loose: set[int] = set()  # rows that nothing rests on
        self._awaited: dict[int, int] = {}  # rows to come out, with what had come out before
        self._held: deque[tuple[int, Any]] = deque()
        self._out = 0

    def goes_in(self, row: int, reference: bool, awaited: bool) -> None:
        if not reference:
            self._loose.add(row)
        if awaited:
            self._awaited[row] = self._out

    def fails(self, row: int) -> None:
        self._awaited.pop(row, None)
        if row in self._loose:
            self._lost.add(row)
        else:
            bisect.insort(self.harm, row)

    def misses(self, row: int) -> None:
        """A picture that others rest on is missing before a row."""
        bisect.insort(self.harm, row - 0.5)

    def comes_out(self, row: int, frame: Any) -> None:
        self._out += 1
        self._awaited.pop(row, None)
        self._seen.add(row)
        if frame.is_corrupt:
            self.fails(row)
        self._held.append((row, frame))
        for late in [r for r, out in self._awaited.items() if self._out - out > REORDERED]:
            self.fails(late)

    def ends(self) -> None:
        """Nothing more comes out."""
        for row in list(self._awaited):
            self.fails(row)

    def settled(self) -> Iterator[tuple[int, Any]]:
        """Pictures on which the judgement is final: none before them is still to come out."""
        while self._held and next(iter(self._awaited), self._held[0][0] + 1) > self._held[0][0]:
            yield self._held.popleft()

    def sound(self, row: int) -> bool:
        """Whether nothing was wrong with the row itself, and all that it may rest on is there."""
        before = self.harm[bisect.bisect_left(self.harm, self._table.start_of(row)) :]
        unseen = any(harm <= row and harm not in self._seen for harm in before)
        return row not in self._lost and row not in self.harm and not unseen

    def clean(self, row: int) -> bool:
        """Whether all was well from the start of its decoding up to a row."""
        place = bisect.bisect_left(self.harm, self._table.start_of(row))
        inherits = place < len(self.harm) and self.harm[place] <= row
        return row not in self._lost and not inherits
