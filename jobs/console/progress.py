"""What long work shows while it runs: how far it has come, or only that it is under way."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta

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

from training.options import STAGES

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
