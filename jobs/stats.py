"""`harmoview stats`: what became of a run, as tables, JSON and a contact sheet."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from datapipe.errors import check_range
from jobs.cli import command

if TYPE_CHECKING:
    from datapipe.files import Folder
    from dataset.inspect.stats import Stats
    from dataset.judged import JudgedRun
    from filters.rules import Rules


@dataclass(frozen=True)
class StatsSettings:
    """Show what became of a run: the way from videos to shards, views per yaw, reasons with
    examples, seconds per stage and sample, the slowest and most failing folders and tars.

    Judges the stored scores; needs no model and changes nothing.
    """

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """The run folder that `harmoview synthesize` made."""
    rules: str | None = None
    """Rules file to judge by; the default is what RUN/shards was packed with, else the package's
    rules."""
    json: bool = False
    """Print JSON instead of tables; docs/stats.md describes it."""
    html: Path | None = None
    """Also write a report: one HTML file with charts, pictures and thresholds that can be moved."""
    sheet: Path | None = None
    """Also write a contact sheet (JPEG): every view with what the rules say of it."""
    sheet_samples: int = 24
    """Candidates on the sheet, at most."""
    export: Path | None = None
    """Also write every view with its scores and what the rules say of it, as a Parquet file."""
    quiet: bool = False
    """Show no progress."""

    def __post_init__(self) -> None:
        check_range(self, "sheet_samples", least=1, most=100)


def execute(settings: StatsSettings) -> None:
    """Count, print, draw."""
    from datapipe.files import Folder
    from dataset.inspect.stats import stats_of
    from dataset.judged import judged_run
    from dataset.run import packed_rules, run_rules
    from jobs.console.output import busy

    run = Folder(settings.run)
    rules = None if settings.rules else packed_rules(run)
    rules = rules or run_rules(run, settings.rules)
    with ExitStack() as stack:
        with busy("judging the scores", quiet=settings.quiet):
            judged = stack.enter_context(judged_run(run, rules))
            stats = stats_of(judged)
        if settings.json:
            print(json.dumps(stats.as_dict(), indent=1))  # ASCII: keys cannot steer the terminal
        else:
            from jobs.console.stats import print_stats

            print_stats(stats)
        if settings.html:
            with busy("drawing the report", quiet=settings.quiet):
                write_report(judged, stats, settings.html)
            if not settings.json:
                print(f"report: {settings.html}")
        if settings.export:
            from dataset.inspect.stats import export_views

            with busy("writing the views", quiet=settings.quiet):
                count = export_views(judged, settings.export)
            if not settings.json:
                print(f"{count:,} views: {settings.export}")
    if settings.sheet:
        with busy("drawing the contact sheet", quiet=settings.quiet):
            write_sheet(run, rules, settings.sheet, settings.sheet_samples)
        if not settings.json:
            print(f"contact sheet: {settings.sheet}")


def write_report(judged: JudgedRun, stats: Stats, path: Path) -> None:
    """Write the HTML report of a run. Raises UserError."""
    from dataset.inspect.report.report import report
    from jobs.console.output import write

    write(path, report(judged, stats))


def write_sheet(run: Folder, rules: Rules, path: Path, samples: int) -> None:
    """Draw the contact sheet of a run. Raises UserError."""
    from dataset.inspect.contact import contact_sheet
    from jobs.console.output import write

    write(path, contact_sheet(run, rules, samples))


main = command(__name__, StatsSettings, execute, first=("rules", "html", "sheet", "export", "json"))
