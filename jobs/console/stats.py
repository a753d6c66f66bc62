"""The statistics of a run as tables on the terminal, or as plain text in a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dataset.inspect.ledger_stats import Clock, SourceStats
from dataset.inspect.stats import Stats
from jobs.console.output import plain

PIPED_WIDTH = 160
"""Columns where there is no terminal to ask: no line of ours is longer."""
SOURCES = 5
"""Of each kind; the JSON has more."""


def print_tables(stats: Stats) -> None:
    """Print everything."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PIPED_WIDTH)
    if not stats.videos:
        console.print("The run has recorded no video yet.")
        return
    tables = (_funnel, _yaws, _reasons, _outcomes, _seconds, _sources)
    for table in (make(stats) for make in tables):
        if table.row_count:
            console.print(table)
    if stats.clock is not None:
        console.print(_rate(stats, stats.clock))
    if stats.packed is not None and not stats.packed_with_these_rules:
        console.print("RUN/shards was packed with other rules than those counted here.")


def new_table(title: str, *columns: str, words: Sequence[str] = ()) -> Table:
    """The first column and `words` are flush left, numbers flush right."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        text = not index or column in words
        justify, overflow = ("left" if text else "right"), "fold"
        table.add_column(column, justify=justify, overflow=overflow, no_wrap=not index)  # type: ignore[arg-type]
    return table


def _funnel(stats: Stats) -> Table:
    table = new_table("From videos to shards", "", "videos", "of all", "identities", "views")
    made, passed, kept = (stats.views(what) for what in ("made", "passed", "kept"))

    def row(name: str, count: int, *others: int) -> None:
        table.add_row(name, _number(count), f"{count / stats.videos:.1%}", *_numbers(*others))

    row("corpus", stats.videos)
    row("prepared", stats.prepared)
    row("candidates", stats.candidates, stats.identities, made)
    table.add_row("views that pass", "", "", "", _number(passed))
    row("kept", stats.samples_kept, stats.identities_kept, kept)
    if stats.packed is not None:
        packed = stats.packed
        row("packed", packed.samples, packed.identities, sum(packed.views.values()))
    return table


def _yaws(stats: Stats) -> Table:
    rejected = "rejected, by the first rule"
    columns = ("made", "detected", "passed", "yield", "kept", rejected)
    table = new_table("Views by yaw", "yaw", *columns, words=[rejected])
    for yaw, found in stats.yaws.items():
        reasons = ", ".join(f"{_number(n)} {name}" for name, n in found.reasons.most_common())
        share = f"{found.share:.0%}"
        counts = _numbers(found.made, found.detected, found.passed)
        table.add_row(f"{yaw:+d}°" if yaw else "0°", *counts, share, _number(found.kept), reasons)
    return table


def _reasons(stats: Stats) -> Table:
    columns = ("rejected", "reason", "count", "for example")
    table = new_table("Why the rules reject", *columns, words=["reason", "for example"])
    for found in stats.reasons:
        what = {"identity": "identities", "view": "views"}[found.of]
        table.add_row(what, found.reason, _number(found.count), _keys(found.examples))
    return table


def _outcomes(stats: Stats) -> Table:
    columns = ("outcome", "reason", "videos", "for example")
    table = new_table("Videos by outcome", *columns, words=["reason", "for example"])
    for found in stats.outcomes:
        reason = Text(plain(found.reason or ""))
        table.add_row(found.outcome, reason, _number(found.videos), _keys(found.examples))
    return table


def _seconds(stats: Stats) -> Table:
    on_gpu = any(stage.gpus for stage in stats.seconds)
    columns = ["videos", "total", "mean", "median", "95 %", "a kept sample"]
    gpu_columns = ["GPUs", "GPU s a kept sample"] if on_gpu else []
    table = new_table("Worker seconds", "stage", *columns, *gpu_columns)
    for stage in stats.seconds:
        times = (stage.total, stage.mean, stage.median, stage.p95, stats.per_sample(stage.total))
        row = [_number(stage.videos), *map(_decimals, times)]
        if on_gpu:
            row += [f"{stage.gpus:g}", _decimals(stats.per_sample(stage.gpu_seconds))]
        table.add_row(stage.stage, *row)
    return table


def _sources(stats: Stats) -> Table:
    """Nothing where all videos are from one place."""
    columns = ("videos", "candidates", "rejected", "errors", "s a video", "folder or tar")
    title = f"Sources that deserve a look, of {_number(stats.sources.count)}"
    table = new_table(title, "", *columns, words=["folder or tar"])
    if stats.sources.count < 2:
        return table

    def rows(name: str, found: Sequence[SourceStats]) -> None:
        for source in found[:SOURCES]:
            counts = (source.videos, source.candidates, source.rejected, source.errors)
            table.add_row(
                name, *_numbers(*counts), f"{source.mean:,.2f}", Text(plain(source.source))
            )
            name = ""

    rows("slowest", stats.sources.slowest)
    rows("most failing", stats.sources.failing)
    return table


def _rate(stats: Stats, clock: Clock) -> str:
    videos, samples = (clock.per_hour(n) for n in (stats.videos, stats.samples_kept))
    times = "once" if clock.drivers == 1 else f"{clock.drivers} times"
    return (
        f"{_decimals(videos, 0)} videos and {_decimals(samples, 0)} kept samples an hour, over "
        f"{clock.seconds / 3600:,.2f} hours; started {times}."
    )


def _keys(keys: Sequence[str]) -> Text:
    return Text(", ".join(map(plain, keys)))


def _decimals(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _numbers(*values: int) -> Iterable[str]:
    return (_number(value) for value in values)


def _number(value: int) -> str:
    return f"{value:,}"
