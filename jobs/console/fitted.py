"""Tables that fit the terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Column, Table
from rich.text import Text

_NUMBER = re.compile(r"[+-]?[\d,]*(\.\d+)?|–|\?")


class FittedTable(Table):
    """A table in which no terminal cuts a word, with decimal points below each other.

    Words fold where there is little room; numbers and names stay whole. Columns for which there is
    no room even so stand below, in a table that begins with the first column again. Only a word
    that is longer than a line, a path say, is cut.
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.max_width
        sizes = [_Size.of(column, room) for column in self.columns]
        parts: list[list[int]] = [[0]]
        for place in range(1, len(sizes)):
            wanted = [*parts[-1], place]
            if len(wanted) > 2 and sum(sizes[one].least for one in wanted) > _inside(wanted, room):
                parts.append([0, place])
            else:
                parts[-1] = wanted
        yield Text(str(self.title), "bold")
        for part in parts:
            yield self._part(part, _widths([sizes[one] for one in part], _inside(part, room)))
        if self.caption:
            yield Text(str(self.caption), "dim")

    def _part(self, places: Sequence[int], widths: Sequence[int]) -> Table:
        """Some of the columns, of these widths."""
        table = Table(box=self.box)
        cells: list[Sequence[RenderableType]] = []
        for place, width in zip(places, widths, strict=True):
            column = self.columns[place]
            head, justify, those = column.header, column.justify, list(column.cells)
            if decimals := _decimals(column):  # rich takes the blanks off what is flush right
                head, justify = Text(str(head), justify="right"), "left"
                those = [f"{number:>{width}}" for number in decimals]
            table.add_column(head, justify=justify, overflow="fold", width=width)
            cells.append(those)
        for row, *line in zip(self.rows, *cells, strict=True):
            table.add_row(*line, style=row.style, end_section=row.end_section)
        return table


@dataclass(frozen=True)
class _Size:
    """How wide a column may be."""

    least: int
    """So that nothing in it is cut."""
    most: int
    words: bool
    """Whether any width between is of use."""

    @classmethod
    def of(cls, column: Column, room: int) -> _Size:
        head, cells = _lines([column.header]), _decimals(column) or _lines(column.cells)
        parts = [word for line in head + cells for word in line.split()]
        whole = max(map(cell_len, cells), default=0)
        least = max(map(cell_len, parts), default=0)
        if column.no_wrap and whole <= room // 2:
            least = max(least, whole)
        return cls(least, max(map(cell_len, [*head, *cells])), not column.no_wrap)


def _decimals(column: Column) -> list[str]:
    """The numbers of a column that differ in their decimals, made equally long behind the point;
    nothing for any other column.
    """
    cells = [str(cell) for cell in column.cells]
    if column.justify != "right" or not all(map(_NUMBER.fullmatch, cells)):
        return []
    behind = [len(cell) - len(cell.partition(".")[0]) for cell in cells]
    if not any(behind) or min(behind) == max(behind):
        return []
    return [cell + " " * (max(behind) - one) for cell, one in zip(cells, behind, strict=True)]


def _lines(cells: Iterable[RenderableType]) -> list[str]:
    found = [cell if isinstance(cell, Text) else Text.from_markup(str(cell)) for cell in cells]
    return [line for cell in found for line in cell.plain.split("\n")]


def _inside(columns: Sequence[object], room: int) -> int:
    """What so many columns have of a line, without what stands between them."""
    return room - 3 * len(columns) - 1


def _widths(sizes: Sequence[_Size], room: int) -> list[int]:
    """Widths of columns: numbers get all that they want where they can, words share the rest."""
    widths = [size.least for size in sizes]
    if (over := sum(widths) - room) > 0:  # a word that is longer than a line
        longest = widths.index(max(widths))
        widths[longest] = max(widths[longest] - over, 1)
    spare = room - sum(widths)
    order = sorted(range(len(sizes)), key=lambda i: (sizes[i].words, sizes[i].most - widths[i]))
    for left, one in zip(range(len(order), 0, -1), order, strict=True):
        more = sizes[one].most - widths[one]
        if sizes[one].words:
            more = min(more, spare // left)
        if 0 < more <= spare:
            widths[one] += more
            spare -= more
    return widths
