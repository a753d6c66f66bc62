"""`harmoview bench report`: every case with all methods side by side, as a page from disk."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from harmoview.bench.published import DEFAULT_WEIGHTS, WeightSet
from harmoview.bench.report.report import write_report
from harmoview.bench.results import collect
from harmoview.bench.run import open_bench
from harmoview.bench.store import read_scores
from harmoview.bench.table import Resampling, table
from jobs.cli import command
from jobs.console.output import progress


@dataclass(frozen=True)
class ReportSettings:
    """Write a folder with index.html and the videos and references that it shows.

    Of each case the prompt, the references, all methods' videos in sync, their scores and every
    face's yaw. Cases can be sorted by the difference of two methods and filtered by tag. It opens
    from disk; give the whole folder away.
    """

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """The benchmark run."""
    html: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """The folder to write."""
    weights: WeightSet = DEFAULT_WEIGHTS
    """Weights of the Total; ranks are shown under all four sets."""
    resampling: tyro.conf.OmitArgPrefixes[Resampling] = field(default_factory=Resampling)
    suite: str | None = None
    """The suite, where it has moved."""
    quiet: bool = False
    """Show no progress."""


def execute(settings: ReportSettings) -> None:
    """Collect, copy, write."""
    run = open_bench(settings.run, settings.suite)
    results = collect(read_scores(run.folder), run.suite.cases, run.suite.sha256)
    rows = table(results, settings.weights, settings.resampling)
    with progress("videos", quiet=settings.quiet) as show:
        page = write_report(
            run,
            results,
            rows,
            settings.weights,
            settings.html,
            lambda done, of: show(Counter(copied=done), of),
        )
    print(page)


main = command(__name__, ReportSettings, execute)
