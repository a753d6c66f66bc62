"""What the ledger tells about the videos of a run: outcomes, time, and where they came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import duckdb

from datapipe.files import Folder
from datapipe.run.tables import RECORDED, STARTED, ledger_segments, parquet

STAGES = ("prepare", "synthesize", "score")
EXAMPLES = 3
WORST = 10
"""Sources that are named."""
_SECONDS = " + ".join(f"coalesce({stage}_seconds, 0)" for stage in STAGES)


def _total(seconds: str) -> str:
    """To the millisecond: threads add in any order, and the sum must not tell."""
    return f"round(fsum({seconds}), 3)"


_SOURCES = f"""
    CREATE TEMP TABLE sources AS SELECT
        CASE WHEN source_member IS NULL THEN parse_dirpath(source_path) || '/'
            ELSE source_path END AS source,
        count(*) AS videos,
        count(*) FILTER (outcome = 'candidate') AS candidates,
        count(*) FILTER (outcome = 'rejected') AS rejected,
        count(*) FILTER (outcome = 'error') AS errors,
        {_total(_SECONDS)} AS seconds
    FROM ledger GROUP BY ALL"""


@dataclass(frozen=True)
class OutcomeStats:
    """Videos that ended alike."""

    outcome: str
    reason: str | None
    videos: int
    examples: list[str]
    """The first three keys."""


@dataclass(frozen=True)
class CaptionStats:
    """Videos by what their captions are."""

    present: int
    empty: int
    """The source says nothing."""
    undecodable: int
    """The source says something that is no text; `caption_problem` in the ledger tells why."""
    several: int
    """Videos with more than one."""
    duplicates: int
    """Videos whose caption another one has already."""
    examples: list[str]
    """The first three keys of those that are undecodable."""


@dataclass(frozen=True)
class StageStats:
    """Worker seconds of a stage, over the videos that went through it."""

    stage: str
    videos: int
    total: float
    mean: float
    median: float
    p95: float
    gpus: float
    """What a worker held meanwhile."""

    @property
    def gpu_seconds(self) -> float:
        return self.gpus * self.total


@dataclass(frozen=True)
class AcceptedRate:
    """What making views yields: the measure by which engines and their settings compare."""

    views: int
    """Views that no rule rejects."""
    seconds: float
    """Of what the workers of `synthesize` held meanwhile, GPUs or CPUs."""
    unit: Literal["gpu", "cpu"]

    @property
    def per_second(self) -> float:
        return self.views / self.seconds


@dataclass(frozen=True)
class SourceStats:
    """The videos of one folder or tar."""

    source: str
    videos: int
    candidates: int
    rejected: int
    errors: int
    seconds: float
    """Worker seconds of all stages."""

    @property
    def mean(self) -> float:
        return self.seconds / self.videos


@dataclass(frozen=True)
class Sources:
    """The folders and tars that deserve a look."""

    count: int
    slowest: list[SourceStats]
    """By seconds a video."""
    failing: list[SourceStats]
    """By videos that became no candidate."""


@dataclass(frozen=True)
class DriverTime:
    """How long drivers worked on the run."""

    drivers: int
    """How often the run was started or continued."""
    first: float
    last: float
    """Beginning of the first, last segment; seconds since 1970."""
    seconds: float
    """From each driver's start to its last segment; pauses between drivers do not count."""

    def per_hour(self, count: int) -> float | None:
        return 3600 * count / self.seconds if self.seconds > 0 else None


def outcomes(connection: duckdb.DuckDBPyConnection) -> list[OutcomeStats]:
    """By outcome, then the most frequent first."""
    rows = connection.execute(
        f"SELECT outcome, reason, count(*) AS videos, min(key, {EXAMPLES}) FROM ledger "
        "GROUP BY outcome, reason ORDER BY outcome, videos DESC, reason"
    ).fetchall()
    return [OutcomeStats(*row) for row in rows]


def captions(connection: duckdb.DuckDBPyConnection) -> CaptionStats:
    """Over all videos of the ledger."""
    row = connection.execute(
        f"""SELECT count(*) FILTER (caption <> ''),
            count(*) FILTER (caption = '' AND caption_problem IS NULL),
            count(caption_problem),
            count(captions),
            count(*) FILTER (caption <> '')
                - (SELECT count(*) FROM (SELECT DISTINCT md5(caption) FROM ledger
                    WHERE caption <> '')),
            coalesce(min(key, {EXAMPLES}) FILTER (caption_problem IS NOT NULL), [])
        FROM ledger"""
    ).fetchone()
    return CaptionStats(*(row or (0, 0, 0, 0, 0, [])))


def stages(connection: duckdb.DuckDBPyConnection, gpus: Mapping[str, float]) -> list[StageStats]:
    """The stages that were timed."""
    wanted = ", ".join(
        f"count({column}), {_total(column)}, quantile_cont({column}, [0.5, 0.95])"
        for column in (f"{stage}_seconds" for stage in STAGES)
    )
    row = connection.execute(f"SELECT {wanted} FROM ledger").fetchone() or ()
    found = []
    for stage, (videos, total, quantiles) in zip(
        STAGES, (row[place : place + 3] for place in range(0, len(row), 3)), strict=True
    ):
        if videos:
            median, p95 = quantiles
            held = gpus.get(stage, 0.0)
            found.append(StageStats(stage, videos, total, total / videos, median, p95, held))
    return found


def sources(connection: duckdb.DuckDBPyConnection) -> Sources:
    """The folders and tars that the videos came from."""
    connection.execute(_SOURCES)

    def named(order: str) -> list[SourceStats]:
        query = f"FROM sources {order}, source LIMIT {WORST}"
        return [SourceStats(*row) for row in connection.execute(query).fetchall()]

    (count,) = connection.execute("SELECT count(*) FROM sources").fetchone() or (0,)
    failed = "rejected + errors"
    return Sources(
        count=count,
        slowest=named("WHERE seconds > 0 ORDER BY seconds / videos DESC"),
        failing=named(f"WHERE {failed} > 0 ORDER BY {failed} DESC, ({failed}) / videos DESC"),
    )


def clock(connection: duckdb.DuckDBPyConnection, run: Folder) -> DriverTime | None:
    """None where there is no segment, or one that does not say when it was written."""
    names = ledger_segments(run)
    if not names:
        return None
    segments = parquet(run, names, "parquet_kv_metadata")
    row = connection.execute(
        f"""SELECT count(*), min(started), max(recorded), sum(recorded - started), sum(segments)
        FROM (SELECT started, max(recorded) AS recorded, count(*) AS segments
            FROM (SELECT file_name,
                    max(value) FILTER (key = '{STARTED}'::BLOB)::VARCHAR::DOUBLE AS started,
                    max(value) FILTER (key = '{RECORDED}'::BLOB)::VARCHAR::DOUBLE AS recorded
                FROM {segments} GROUP BY file_name)
            WHERE started IS NOT NULL GROUP BY started)"""
    ).fetchone()
    if row is None or row[-1] != len(names):
        return None
    return DriverTime(*row[:-1])
