"""The statistics of a run as tables on the terminal, or as plain text in a pipe."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table

from datapipe.inspect.stats import Stats

PIPED_WIDTH = 160
"""Columns where there is no terminal to ask: no line of ours is longer."""


def print_tables(stats: Stats) -> None:
    """Print everything."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PIPED_WIDTH)
    for table in (_funnel(stats), _yaws(stats), _outcomes(stats), _seconds(stats)):
        if table.row_count:
            console.print(table)
    if stats.packed is not None and not stats.packed_with_these_rules:
        console.print("RUN/shards was packed with other rules than those counted here.")


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _funnel(stats: Stats) -> Table:
    table = _table("From videos to shards", "", "videos", "identities", "views")
    made, passed, kept = (stats.views(what) for what in ("made", "passed", "kept"))
    table.add_row("corpus", _number(stats.videos), "", "")
    table.add_row("candidates", *_numbers(stats.candidates, stats.identities, made))
    table.add_row("views that pass", "", "", _number(passed))
    table.add_row("kept", *_numbers(stats.samples_kept, stats.identities_kept, kept))
    if stats.packed is not None:
        packed = stats.packed
        views = sum(packed.views.values())
        table.add_row("packed", *_numbers(packed.samples, packed.identities, views))
    for reason, count in stats.identity_reasons.most_common():
        table.add_row(f"  left out: {reason}", "", _number(count), "")
    return table


def _yaws(stats: Stats) -> Table:
    columns = ("made", "detected", "passed", "yield", "kept", "rejected, by the first rule")
    table = _table("Views by yaw", "yaw", *columns)
    table.columns[-1].justify = "left"
    for yaw, found in sorted(stats.yaws.items()):
        reasons = ", ".join(f"{_number(n)} {name}" for name, n in found.reasons.most_common())
        share = f"{found.share:.0%}"
        counts = _numbers(found.made, found.detected, found.passed)
        table.add_row(f"{yaw:+d}°" if yaw else "0°", *counts, share, _number(found.kept), reasons)
    return table


def _outcomes(stats: Stats) -> Table:
    table = _table("Videos by outcome", "outcome", "reason", "videos", "for example")
    table.columns[1].justify = table.columns[3].justify = "left"
    for found in stats.outcomes:
        examples = ", ".join(found.examples)
        table.add_row(found.outcome, found.reason or "", _number(found.videos), examples)
    return table


def _seconds(stats: Stats) -> Table:
    columns = ("videos", "total", "mean", "median", "95 %", "per kept sample")
    table = _table("Worker seconds", "stage", *columns)
    for stage in stats.seconds:
        per_kept = f"{stage.total / stats.samples_kept:.2f}" if stats.samples_kept else "–"
        times = (f"{value:,.2f}" for value in (stage.total, stage.mean, stage.median, stage.p95))
        table.add_row(stage.stage, _number(stage.videos), *times, per_kept)
    return table


def _numbers(*values: int) -> Iterable[str]:
    return (_number(value) for value in values)


def _number(value: int) -> str:
    return f"{value:,}"
