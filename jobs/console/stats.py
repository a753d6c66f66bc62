"""What became of a run: its statistics as tables, its shards in a sentence or two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from datapipe.corpus.names import PassedOver
from dataset.inspect.ledger_stats import DriverTime, SourceStats
from dataset.inspect.stats import Stats
from dataset.inspect.video_stats import MeanOf
from dataset.pack.manifest import Manifest
from jobs.console.output import degrees, new_table, number, numbers, plain, screen, text

SCORERS = {"brisque": "brisque: distortion"}
"""What needs saying of an aesthetic scorer beyond its name."""
SOURCES = 5
"""Sources of each kind that are shown; the JSON has more."""


def print_stats(stats: Stats) -> None:
    """Print every table that has rows, then the rate."""
    console = screen()
    if not stats.videos:
        console.print("The run has recorded no video yet.")
        return
    tables = (
        *(_funnel, _yaws, _reasons, _outcomes, _windows, _real_views, _engine),
        *(_captions, _seconds, _sources),
    )
    for table in (make(stats) for make in tables):
        if table.row_count:
            console.print(table)
    if stats.passed_over:
        console.print(f"Files that are no part of a sample: {PassedOver(stats.passed_over)}.")
    if stats.real is not None and stats.real.spared:
        said = "spared" if stats.real.mode == "instead" else "would spare"
        console.print(f"--real-views instead {said} {stats.real.spared:.0%} of the engine's views.")
    if (rate := stats.accepted) is not None:
        console.print(
            f"{number(rate.per_second, 3)} accepted views per {rate.unit.upper()}-second of "
            "synthesize."
        )
    if stats.clock is not None:
        console.print(_rate(stats, stats.clock))
    if stats.packed is not None and not stats.packed_with_these_rules:
        console.print("RUN/shards was packed with other rules than those counted here.")


def _funnel(stats: Stats) -> Table:
    table = new_table("From videos to shards", "", "videos", "of all", "identities", "views")
    made, passed, kept = (stats.views(what) for what in ("made", "passed", "kept"))

    def row(name: str, count: int, *others: int) -> None:
        table.add_row(name, number(count), f"{count / stats.videos:.1%}", *numbers(*others))

    row("corpus", stats.videos)
    row("prepared", stats.prepared)
    row("candidates", stats.candidates, stats.identities, made)
    table.add_row("views that pass", "", "", "", number(passed))
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
        counted = found.reasons.most_common()
        reasons = ", ".join(f"{number(n)} {_reason(stats, name)}" for name, n in counted)
        share = f"{found.share:.0%}"
        counts = numbers(found.made, found.detected, found.passed)
        table.add_row(degrees(yaw), *counts, share, number(found.kept), reasons)
    return table


def _reasons(stats: Stats) -> Table:
    columns = ("rejected", "reason", "count", "for example")
    table = new_table("Why the rules reject", *columns, words=["reason", "for example"])
    for found in stats.reasons:
        what = {"identity": "identities", "view": "views"}[found.of]
        reason = _reason(stats, found.reason)
        table.add_row(what, reason, number(found.count), _keys(found.examples))
    return table


def _reason(stats: Stats, name: str) -> str:
    """A reason of the rules, which for aesthetic scores names whose they are."""
    scorer = stats.rules["aesthetic"]["scorer"]
    return f"{name} ({SCORERS.get(scorer, scorer)})" if name.endswith("aesthetic") else name


def _outcomes(stats: Stats) -> Table:
    columns = ("outcome", "reason", "videos", "for example")
    table = new_table("Videos by outcome", *columns, words=["reason", "for example"])
    for found in stats.outcomes:
        reason = text(found.reason or "")
        table.add_row(found.outcome, reason, number(found.videos), _keys(found.examples))
    return table


def _windows(stats: Stats) -> Table:
    """No rows where nobody was followed."""
    found = stats.windows
    title = "Windows in which people are seen"
    table = new_table(title, "", "windows", "by length", "by yaw span",
                      words=["by length", "by yaw span"])  # fmt: skip
    if not found.windows:
        return table
    table.add_row("found", number(found.windows), "", "")
    lengths, spans = _bins(found.lengths, " s"), _bins(found.spans, "°")
    table.add_row("pass the rules", number(found.passed), lengths, spans)
    if found.together:
        table.add_row("… with two identities", number(found.together), "", "")
    for reason, count in found.reasons.most_common():
        table.add_row(f"rejected: {reason}", number(count), "", "")
    if found.without:
        table.add_row("identities without one", number(found.without), "", "")
    return table


def _real_views(stats: Stats) -> Table:
    """No rows where none were looked for."""
    table = new_table("Identities whom their video shows at a yaw", "yaw", "identities", "real",
                      "share", "from", "to", "kept")  # fmt: skip
    for one in stats.real.coverage if stats.real else ():
        shares = (f"{value:.1%}" for value in (one.share, one.low, one.high))
        table.add_row(
            degrees(one.yaw), *numbers(one.identities, one.real), *shares, number(one.kept)
        )
    return table


def _engine(stats: Stats) -> Table:
    """No rows where no yaw has both kinds of views."""
    table = new_table("The engine against real views of the same people", "yaw", "pairs",
                      "cosine", "degrees apart", "sharpness over real")  # fmt: skip
    for one in stats.real.engine if stats.real else ():
        means = (_mean(one.cosine, 2), _mean(one.turn, 1), _mean(one.sharpness, 2))
        table.add_row(degrees(one.yaw), number(one.pairs), *means)
    return table


def _mean(found: MeanOf | None, digits: int) -> str:
    """A mean with its interval."""
    if found is None:
        return "–"
    text = f"{found.mean:.{digits}f}"
    if found.low is None or found.high is None:
        return text
    return f"{text} ({found.low:.{digits}f} to {found.high:.{digits}f})"


def _bins(counts: Mapping[int, int], unit: str) -> str:
    """Bins that are not empty, a line each: from where they begin to where the next one does."""
    starts = list(counts)
    ends = [f"–{end}{unit}" for end in starts[1:]] + [f"{unit} and more"]
    return "\n".join(
        f"{start}{end}: {number(counts[start])}"
        for start, end in zip(starts, ends, strict=True)
        if counts[start]
    )


def _captions(stats: Stats) -> Table:
    found = stats.captions
    table = new_table("Captions", "", "videos", "for example", words=["for example"])
    table.add_row("with a caption", number(found.present), "")
    for name, count, examples in (
        ("several captions", found.several, []),
        ("duplicates", found.duplicates, []),
        ("empty", found.empty, []),
        ("undecodable", found.undecodable, found.examples),
    ):
        if count:
            table.add_row(name, number(count), _keys(examples))
    return table


def _seconds(stats: Stats) -> Table:
    on_gpu = any(stage.gpus for stage in stats.seconds)
    columns = ["videos", "total", "mean", "median", "95 %", "a kept sample"]
    gpu_columns = ["GPUs", "GPU s a kept sample"] if on_gpu else []
    table = new_table("Worker seconds", "stage", *columns, *gpu_columns)
    for stage in stats.seconds:
        times = (stage.total, stage.mean, stage.median, stage.p95, stats.per_sample(stage.total))
        row = [number(stage.videos), *(number(seconds, 2) for seconds in times)]
        if on_gpu:
            row += [f"{stage.gpus:g}", number(stats.per_sample(stage.gpu_seconds), 2)]
        table.add_row(stage.stage, *row)
    return table


def _sources(stats: Stats) -> Table:
    """No rows where all videos are from one place."""
    columns = ("videos", "candidates", "rejected", "errors", "s a video", "folder or tar")
    title = f"Sources that deserve a look, of {number(stats.sources.count)}"
    table = new_table(title, "", *columns, words=["folder or tar"])
    if stats.sources.count < 2:
        return table

    def rows(name: str, found: Sequence[SourceStats]) -> None:
        for source in found[:SOURCES]:
            counts = (source.videos, source.candidates, source.rejected, source.errors)
            table.add_row(name, *numbers(*counts), f"{source.mean:,.2f}", text(source.source))
            name = ""

    rows("slowest", stats.sources.slowest)
    rows("most failing", stats.sources.failing)
    return table


def _rate(stats: Stats, clock: DriverTime) -> str:
    videos, samples = (clock.per_hour(n) for n in (stats.videos, stats.samples_kept))
    times = "once" if clock.drivers == 1 else f"{clock.drivers} times"
    return (
        f"{number(videos)} videos and {number(samples)} kept samples an hour, over "
        f"{clock.seconds / 3600:,.2f} hours; started {times}."
    )


def _keys(keys: Sequence[str]) -> Text:
    return Text(", ".join(map(plain, keys)))


def print_packed(manifest: Manifest, where: str) -> None:
    """Print how much was packed, and what was left out."""
    totals = manifest.totals
    print(
        f"packed {totals.samples:,} of {totals.candidates:,} candidates into {where}: "
        f"identities {totals.identities:,}, views {sum(totals.views.values()):,}, "
        f"shards {len(manifest.shards):,}, {totals.bytes / 1e6:,.1f} MB"
    )
    if totals.references.keys() - {"own"}:
        other, shot, own = (totals.references.get(name, 0) for name in ("other", "shot", "own"))
        print(
            f"references: {other:,} of another video of the same person, {shot:,} of another shot, "
            f"{own:,} of the clip"
        )
    if totals.over_cap:
        print(f"left out as too many of a person: {totals.over_cap:,}")
    if totals.skipped:
        skipped = (f"{count:,} for their {what}" for what, count in totals.skipped.items())
        print(f"skipped: {', '.join(skipped)}")


def print_people(manifest: Manifest, where: str) -> None:
    """Print who is in several videos."""
    found = manifest.selection
    print(
        f"of {found['identities']:,} identities, {found['people_in_several_videos']:,} people are "
        f"in several videos ({found['videos_of_these']:,} videos; cosine "
        f"{found['same_person']:g} by {found['recogniser']}): {where}/identities.jsonl"
    )
