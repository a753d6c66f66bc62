"""What commands write and show: tables and text, on a terminal or in a pipe, files, and progress.

Progress says how far long work has come, or only that it is under way.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import textwrap
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Literal

from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from datapipe.errors import UserError
from datapipe.files import Folder
from jobs.console.fitted import FittedTable
from training.options import STAGES

PIPED_WIDTH = 200
"""Columns where there is neither a terminal to ask nor COLUMNS: hardly a line of ours is longer."""
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories that steer a terminal or reorder text instead of showing something."""
_JOINERS = "\u200c\u200d"
"""Of these, what Persian words and composed emoji are written with; they steer nothing."""


def screen() -> Console:
    """Standard output, as wide as the terminal or COLUMNS; in a pipe so wide that nothing folds."""
    found = Console(highlight=False)
    known = found.is_terminal or "COLUMNS" in os.environ
    return found if known else Console(highlight=False, width=PIPED_WIDTH)


def new_table(title: str, *columns: str, words: Collection[str] = ()) -> Table:
    """A table without rows; numbers are flush right, the first column and `words` flush left."""
    table = FittedTable(title=title, box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        justify: Literal["left", "right"] = "left" if not index or column in words else "right"
        table.add_column(column, justify=justify, no_wrap=column not in words or not index)
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


Show = Callable[[Counter[str], int | None], None]
"""Told how many samples ended in which outcome, of how many (None while that is counted)."""
LOG_SECONDS = 10.0
"""Seconds between two lines of progress where there is no terminal: a log is read, not watched."""

STEP_SECONDS = 30.0
"""Seconds between two lines of a training."""
_STYLES = {
    **{"candidate": "green", "rejected": "yellow", "error": "red"},
    **{"packed": "green", "left out": "yellow", "skipped": "red"},
}


def busy(doing: str, *, quiet: bool) -> AbstractContextManager[object]:
    """Says on a terminal what is being done within the block, on stderr; a log is told nothing.

    For work of one step, which cannot be counted.
    """
    return Console(stderr=True, quiet=quiet).status(doing)


@contextmanager
def progress(title: str, *, quiet: bool) -> Iterator[Show]:
    """Yields what shows the counts on stderr: as a bar with a rate on a terminal, else in lines."""
    if quiet:
        yield lambda outcomes, total: None
    elif sys.stderr.isatty():
        with _bar(title) as show:
            yield show
    else:
        with _lines(title) as show:
            yield show


@contextmanager
def steps(title: str, *, quiet: bool) -> Iterator[Callable[[int, int, str], None]]:
    """Yields what shows steps done, of how many, and words about the last one, on stderr.

    On a terminal it is a bar; else a line each half minute, with the seconds a step took on the
    mean and what is left by it. Stages (`training.options`) are named as they begin.
    """
    begin = told = time.monotonic()
    first: int | None = None
    bar = Progress(console=Console(stderr=True), disable=quiet or not sys.stderr.isatty())

    def name_stage(what: str) -> None:
        nonlocal begin
        begin = time.monotonic() if first is None else begin
        bar.update(task, description=f"{title}, {what}")
        if bar.disable and not quiet:
            print(f"[{title}] {what}", file=sys.stderr, flush=True)

    with bar, _stages_told(name_stage):
        task = bar.add_task(title, total=None)

        def show(done: int, total: int, words: str) -> None:
            nonlocal told, first
            first = done - 1 if first is None else first
            bar.update(task, completed=done, total=total, description=f"{title}, {words}")
            now = time.monotonic()
            if bar.disable and not quiet and (now - told >= STEP_SECONDS or done == total):
                told = now
                each = (now - begin) / (done - first)
                left = timedelta(seconds=round(each * (total - done)))
                line = (
                    f"[{title}] step {done} of {total}, {words}, {each:.2f} s a step, {left} left"
                )
                print(line, file=sys.stderr, flush=True)

        yield show


@contextmanager
def _stages_told(name_stage: Callable[[str], None]) -> Iterator[None]:
    handler = logging.Handler()
    handler.emit = lambda record: name_stage(record.getMessage())  # type: ignore[method-assign]
    STAGES.addHandler(handler)
    try:
        yield
    finally:
        STAGES.removeHandler(handler)


@contextmanager
def transfer(title: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Yields what shows on stderr the bytes done, of how many: a bar, or lines in a log."""
    begin = told = time.monotonic()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[words]}"),
        console=Console(stderr=True),
        disable=quiet or not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task(title, total=None, words="")

        def show(done: int, of: int) -> None:
            nonlocal told
            now = time.monotonic()
            rate = decimal(round(done / max(now - begin, 1e-3)))
            words = f"{decimal(done)} of {decimal(of)}, {rate}/s"
            bar.update(task, completed=done, total=of, words=words)
            if bar.disable and not quiet and (now - told >= LOG_SECONDS or done == of):
                told = now
                print(f"[{title}] {words}", file=sys.stderr, flush=True)

        yield show


@contextmanager
def _bar(title: str) -> Iterator[Show]:
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[counts]}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task(title, total=None, counts="", rate="")

        def show(outcomes: Counter[str], total: int | None) -> None:
            done = outcomes.total()
            elapsed = bar.tasks[task].elapsed or 0.0
            rate = f"{60 * done / elapsed:.1f}/min" if done and elapsed else ""
            counts = "  ".join(
                f"[{_STYLES.get(name, 'default')}]{count} {name}[/]"
                for name, count in sorted(outcomes.items())
            )
            bar.update(task, completed=done, total=total, counts=counts, rate=rate)

        yield show


@contextmanager
def _lines(title: str) -> Iterator[Show]:
    last: tuple[Counter[str], int | None] = (Counter(), None)
    told = time.monotonic()

    def show(outcomes: Counter[str], total: int | None) -> None:
        nonlocal last, told
        last = (Counter(outcomes), total)
        if time.monotonic() - told >= LOG_SECONDS:
            told = time.monotonic()
            print(describe(title, *last), file=sys.stderr, flush=True)

    yield show
    print(describe(title, *last), file=sys.stderr, flush=True)


_LINE = re.compile(r"\[(?P<title>[a-z -]+)\] (?P<done>\d+)(?: of (?P<total>\d+))?(?P<counts>.*)")
_COUNT = re.compile(r", (\d+) ([a-z_ ]+)")


def describe(title: str, outcomes: Counter[str], total: int | None) -> str:
    """One line of progress; `parse` reads it back."""
    counts = "".join(f", {count} {name}" for name, count in sorted(outcomes.items()))
    of = "" if total is None else f" of {total}"
    return f"[{title}] {outcomes.total()}{of}{counts}"


def parse(line: str) -> tuple[str, Counter[str], int | None] | None:
    """What `describe` was told; None where the line is not one of its own."""
    found = _LINE.fullmatch(line.rstrip("\r"))
    if found is None:
        return None
    outcomes = Counter({name: int(count) for count, name in _COUNT.findall(found["counts"])})
    if (
        describe(found["title"], outcomes, None)
        != f"[{found['title']}] {found['done']}" + found["counts"]
    ):
        return None
    return found["title"], outcomes, int(found["total"]) if found["total"] else None
