"""What became of a run: from videos to kept views, counted by outcome, yaw and reason.

Every view and window with what the rules say of it is there as a table, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.run.info import load_passed_over
from datapipe.run.tables import next_rows
from dataset.inspect import ledger_stats
from dataset.inspect.ledger_stats import (
    EXAMPLES,
    AcceptedRate,
    CaptionStats,
    DriverTime,
    OutcomeStats,
    Sources,
    SourceStats,
    StageStats,
)
from dataset.inspect.video_stats import RealStats, WindowStats, real_stats, window_stats
from dataset.judged import SORTING_THREADS, JudgedRun, judged_run
from dataset.pack.manifest import PackTotals, load_packed
from filters.rules import Rules

FORMAT = 1
_A_KEY_A_FEW_TIMES = 2 * EXAMPLES
"""A sample has two identities at most, so the first keys are among so many rows."""


@dataclass
class YawStats:
    """The views at one yaw."""

    yaw: int
    made: int = 0
    detected: int = 0
    passed: int = 0
    """Views that no rule rejects."""
    kept: int = 0
    """Those of them whose identity is kept."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Of the others, the first rule that each fails."""

    @property
    def share(self) -> float:
        """The yield: passed over made."""
        return self.passed / self.made


@dataclass(frozen=True)
class ReasonStats:
    """Identities or views that fail alike."""

    of: Literal["identity", "view"]
    reason: str
    count: int
    examples: list[str]
    """The first three keys."""


@dataclass
class Stats:
    """Everything `harmoview stats` knows."""

    rules: Mapping[str, Any]
    videos: int = 0
    prepared: int = 0
    candidates: int = 0
    identities: int = 0
    samples_kept: int = 0
    identities_kept: int = 0
    yaws: dict[int, YawStats] = field(default_factory=dict)
    """Rising."""
    reasons: list[ReasonStats] = field(default_factory=list)
    """Of identities, then of views; the most frequent first."""
    outcomes: list[OutcomeStats] = field(default_factory=list)
    seconds: list[StageStats] = field(default_factory=list)
    clock: DriverTime | None = None
    sources: Sources = field(default_factory=lambda: Sources(0, [], []))
    captions: CaptionStats = field(default_factory=lambda: CaptionStats(0, 0, 0, 0, 0, []))
    windows: WindowStats = field(default_factory=WindowStats)
    synthesised: bool = True
    """Whether the run has an engine that makes views."""
    real: RealStats | None = None
    """None where no real views were looked for."""
    passed_over: Mapping[str, int] | None = None
    """Files of the corpus that are no part of a sample, by suffix; None where it is not known."""
    packed: PackTotals | None = None
    """Of RUN/shards, where it is complete."""
    packed_with_these_rules: bool | None = None

    def views(self, what: str) -> int:
        """The sum over the yaws of "made", "detected", "passed" or "kept"."""
        return sum(getattr(yaw, what) for yaw in self.yaws.values())

    def per_sample(self, seconds: float) -> float | None:
        """Of a total, the share of each kept sample."""
        return seconds / self.samples_kept if self.samples_kept else None

    @property
    def accepted(self) -> AcceptedRate | None:
        """None before any view was made, and in a run without an engine."""
        if not self.synthesised:
            return None
        made = next((stage for stage in self.seconds if stage.stage == "synthesize"), None)
        if made is None or not made.total or not self.yaws:
            return None
        passed = self.views("passed")
        if made.gpus:
            return AcceptedRate(passed, made.gpu_seconds, "gpu")
        return AcceptedRate(passed, made.total, "cpu")

    def as_dict(self) -> dict[str, Any]:
        """JSON types; `docs/stats.md` describes them."""
        packed = self.packed
        return {
            "format": FORMAT,
            "funnel": {
                "videos": self.videos,
                "prepared": self.prepared,
                "candidates": self.candidates,
                "identities": self.identities,
                "views_made": self.views("made"),
                "views_detected": self.views("detected"),
                "views_passed": self.views("passed"),
                "views_kept": self.views("kept"),
                "identities_kept": self.identities_kept,
                "samples_kept": self.samples_kept,
                "samples_packed": packed.samples if packed else None,
            },
            "yaws": [
                {**vars(yaw), "reasons": dict(yaw.reasons.most_common()), "yield": yaw.share}
                for yaw in self.yaws.values()
            ],
            "reasons": [asdict(reason) for reason in self.reasons],
            "outcomes": [asdict(outcome) for outcome in self.outcomes],
            "seconds": [self._stage(stage) for stage in self.seconds],
            "accepted": (rate := self.accepted) and {**asdict(rate), "per_second": rate.per_second},
            "throughput": self.clock and self._throughput(self.clock),
            "sources": {
                "count": self.sources.count,
                "slowest": [_source(source) for source in self.sources.slowest],
                "failing": [_source(source) for source in self.sources.failing],
            },
            "captions": asdict(self.captions),
            "windows": self.windows.as_dict(),
            "real_views": self.real and self.real.as_dict(),
            "passed_over": self.passed_over and dict(self.passed_over),
            "packed": asdict(packed) if packed else None,
            "packed_with_these_rules": self.packed_with_these_rules,
            "rules": dict(self.rules),
        }

    def _stage(self, stage: StageStats) -> dict[str, Any]:
        return {
            **asdict(stage),
            "gpu_seconds": stage.gpu_seconds,
            "per_sample": self.per_sample(stage.total),
            "gpu_seconds_per_sample": self.per_sample(stage.gpu_seconds),
        }

    def _throughput(self, clock: DriverTime) -> dict[str, Any]:
        return {
            "drivers": clock.drivers,
            "first": datetime.fromtimestamp(clock.first, UTC).isoformat(timespec="seconds"),
            "last": datetime.fromtimestamp(clock.last, UTC).isoformat(timespec="seconds"),
            "seconds": clock.seconds,
            "videos_per_hour": clock.per_hour(self.videos),
            "samples_per_hour": clock.per_hour(self.samples_kept),
        }


def run_stats(run: Folder, rules: Rules) -> Stats:
    """Count everything. Raises UserError when the run cannot be read or lacks scores."""
    with judged_run(run, rules) as judged:
        return stats_of(judged)


def stats_of(judged: JudgedRun) -> Stats:
    """Count everything. Raises UserError when the manifest in RUN/shards is damaged."""
    run, connection = judged.run, judged.connection
    stats = Stats(judged.rules.as_dict())
    stats.outcomes = ledger_stats.outcomes(connection)
    stats.videos = sum(outcome.videos for outcome in stats.outcomes)
    stats.seconds = ledger_stats.stages(connection, judged.info.gpus)
    # what stopped in Prepare was never timed in the next stage
    stats.prepared = sum(s.videos for s in stats.seconds if s.stage == "synthesize")
    stats.clock = ledger_stats.clock(connection, run)
    stats.sources = ledger_stats.sources(connection)
    stats.captions = ledger_stats.captions(connection)
    stats.windows = window_stats(connection)
    stats.synthesised = judged.info.settings.get("engine") != {"engine": "none"}
    stats.real = real_stats(connection, judged.info.settings)
    stats.passed_over = load_passed_over(run)
    _count_identities(stats, connection)
    _count_views(stats, connection)
    shards = run.folder("shards")
    if shards.exists("manifest.json"):
        manifest = load_packed(shards)
        stats.packed = manifest.totals
        stats.packed_with_these_rules = manifest.rules == stats.rules
    return stats


def _count_identities(stats: Stats, connection: duckdb.DuckDBPyConnection) -> None:
    stats.candidates = sum(o.videos for o in stats.outcomes if o.outcome == "candidate")
    kept = "SELECT count(DISTINCT key) FROM identities WHERE reason IS NULL"
    (stats.samples_kept,) = connection.execute(kept).fetchone() or (0,)
    query = f"SELECT reason, count(*), min(key, {_A_KEY_A_FEW_TIMES}) FROM identities GROUP BY ALL"
    counts, examples = Counter[str](), {}
    for reason, count, keys in connection.execute(query).fetchall():
        stats.identities += count
        if reason is None:
            stats.identities_kept = count
        else:
            counts[reason], examples[reason] = count, set(keys)
    stats.reasons += _reasons("identity", counts, examples)


def _count_views(stats: Stats, connection: duckdb.DuckDBPyConnection) -> None:
    query = (
        f"SELECT yaw, reason, kept, count(*), min(key, {_A_KEY_A_FEW_TIMES}) "
        "FROM judged GROUP BY ALL ORDER BY yaw"
    )
    examples: dict[str, set[str]] = {}
    for yaw, reason, kept, count, keys in connection.execute(query).fetchall():
        found = stats.yaws.setdefault(yaw, YawStats(yaw))
        found.made += count
        found.detected += count * (reason != "not_detected")
        found.kept += count * kept
        if reason is None:
            found.passed += count
        else:
            found.reasons[reason] += count
            examples.setdefault(reason, set()).update(keys)
    counts = sum((yaw.reasons for yaw in stats.yaws.values()), Counter[str]())
    stats.reasons += _reasons("view", counts, examples)


def _reasons(
    of: Literal["identity", "view"], counts: Counter[str], examples: Mapping[str, set[str]]
) -> list[ReasonStats]:
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return [
        ReasonStats(of, name, count, sorted(examples[name])[:EXAMPLES]) for name, count in ordered
    ]


def _source(source: SourceStats) -> dict[str, Any]:
    return {**asdict(source), "mean": source.mean}


ROWS = 50_000
"""Rows that are read and written at a time."""
VIEWS = """SELECT shown.*, judged.reason, judged.kept, identities.reason AS identity_reason
    FROM shown JOIN judged USING (key, identity, yaw) JOIN identities USING (key, identity)
    ORDER BY key, identity, yaw"""
"""The columns of RUN/views, of each yaw the view that the rules choose; why the rules reject it,
whether a pack holds it, and why its identity is left out. No reason is null."""
WINDOWS = """FROM judged_windows SEMI JOIN candidates USING (key) ORDER BY key, identity, start"""
"""The columns of RUN/windows; `seconds`, `yaw_span`, and why training does not use the window."""


def views_table(judged: JudgedRun) -> pa.Table:
    """All views of a run by `VIEWS`, in memory."""
    return judged.connection.sql(VIEWS).to_arrow_table()


def windows_table(judged: JudgedRun) -> pa.Table:
    """All windows of a run by `WINDOWS`, in memory."""
    return judged.connection.sql(WINDOWS).to_arrow_table()


def export_views(judged: JudgedRun, path: Path) -> int:
    """Write all views by `VIEWS` to a Parquet file, whole or not at all; how many there are.

    Memory does not grow with the run. Raises UserError where the file cannot be written.
    """
    judged.connection.execute(f"SET threads = {SORTING_THREADS}")
    reader, count = judged.connection.sql(VIEWS).to_arrow_reader(ROWS), 0
    try:
        with (
            Folder(path.resolve().parent).create(path.name) as file,
            pq.ParquetWriter(file, reader.schema) as writer,
        ):
            while (rows := next_rows(reader)) is not None:
                writer.write_batch(rows)
                count += len(rows)
    except OSError as wrong:
        raise UserError(f"cannot write {path}: {wrong.strerror or wrong}") from wrong
    return count
