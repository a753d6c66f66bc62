"""What long work shows while it runs."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from datapipe.errors import UserError

_STYLES = {
    **{"candidate": "green", "rejected": "yellow", "error": "red"},
    **{"packed": "green", "left out": "yellow", "skipped": "red"},
}


@contextmanager
def progress(title: str, *, quiet: bool) -> Iterator[Callable[[Counter[str], int | None], None]]:
    """Yields `show(outcomes, total)`; a bar with the counts per outcome and the rate, on stderr."""
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
        disable=quiet,
    )
    with bar:
        task = bar.add_task(title, total=None, counts="", rate="")

        def show(outcomes: Counter[str], total: int | None) -> None:
            done = outcomes.total()
            elapsed = bar.tasks[task].elapsed or 0.0
            rate = f"{60 * done / elapsed:.1f}/min" if done and elapsed else ""
            counts = "  ".join(
                f"[{_STYLES[name]}]{count} {name}[/]" for name, count in sorted(outcomes.items())
            )
            bar.update(task, completed=done, total=total, counts=counts, rate=rate)

        yield show


class Counted(threading.Thread):
    """Counts a listing in the background, so that the work need not wait for the total."""

    def __init__(self, count: Callable[[], int]) -> None:
        super().__init__(daemon=True)
        self._count = count
        self.total: int | None = None

    def run(self) -> None:
        # what is wrong with the corpus is told by the work itself
        with suppress(UserError, OSError):
            self.total = self._count()
