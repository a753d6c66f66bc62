"""What commands write: tables and text on a terminal or in a pipe, and files beside a run."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from datapipe.errors import UserError
from datapipe.files import Folder

PIPED_WIDTH = 200
"""Columns where there is no terminal to ask: hardly a line of ours is longer."""
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories that steer a terminal or reorder text instead of showing something."""
_JOINERS = "\u200c\u200d"
"""Of these, what Persian words and composed emoji are written with; they steer nothing."""


def screen() -> Console:
    """Standard output, as wide as the terminal; in a pipe so wide that no table is folded."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=PIPED_WIDTH)


def new_table(title: str, *columns: str, words: Collection[str] = ()) -> Table:
    """A table without rows; numbers are flush right, the first column and `words` flush left."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        justify: Literal["left", "right"] = "left" if not index or column in words else "right"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=not index)
    return table


def add_aligned(table: Table, rows: Sequence[Sequence[str]]) -> Table:
    """Add all rows of a table, with the decimal points of a column below each other."""
    for index, column in enumerate(table.columns):
        if column.justify != "right":
            continue
        parts = [row[index].partition(".") for row in rows]
        after = max((len(point + rest) for _, point, rest in parts), default=0)
        cells = [f"{whole}{point + rest:<{after}}" for whole, point, rest in parts]
        width = max(map(len, [str(column.header), *cells]))
        column.justify, column.header = "left", f"{column.header:>{width}}"
        rows = [
            [*row[:index], f"{cell:>{width}}", *row[index + 1 :]]
            for row, cell in zip(rows, cells, strict=True)
        ]
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def fold(text: str, width: int, first: str, then: str) -> list[str]:
    """Lines of a text that begin with `first` and `then`.

    No word is cut; one that is longer than a line, a path say, is left to the terminal.
    """
    found: list[str] = []
    for line in text.split("\n"):
        start = then if found else first
        found += textwrap.wrap(
            line,
            max(width, 40),
            initial_indent=start,
            subsequent_indent=then,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [start.rstrip()]
    return found


def degrees(yaw: int) -> str:
    """A yaw with its sign; 0 has none."""
    return f"{yaw:+d}°" if yaw else "0°"


def number(value: float | None, digits: int = 0) -> str:
    """With commas between thousands; a dash where there is none."""
    return "–" if value is None else f"{value:,.{digits}f}"


def numbers(*values: float) -> list[str]:
    """Whole numbers, as cells."""
    return [number(value) for value in values]


def text(words: object) -> Text:
    """A line or a cell with text from a corpus or a file, none of which steers the terminal."""
    return Text(plain(str(words)))


def plain(text: str, *, lines: bool = False) -> str:
    """The text with every control character written out, as `\\x1b`; no escape sequence is left.

    One line, unless `lines` asks to keep its line ends (of a traceback). For rich, wrap the result
    in `rich.text.Text`, as `text` does: a plain string is read as markup there.
    """
    kept = _JOINERS + "\n" * lines
    return "".join(
        letter
        if letter in kept or unicodedata.category(letter) not in _UNSEEN
        else letter.encode("unicode_escape").decode()
        for letter in text.expandtabs(4)
    )


def write(path: Path, data: bytes) -> None:
    """Put a file where the user asked for it. Raises UserError when it cannot be written there."""
    try:
        Folder(path.resolve().parent).put(path.name, data)
    except OSError as wrong:
        raise UserError(f"cannot write {path}: {wrong.strerror}") from wrong
