"""What became of a run: from videos to kept views, counted by outcome, yaw and reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from datapipe.files import Folder
from datapipe.pack.manifest import Totals, load_manifest
from datapipe.pack.scored import (
    AppliedRules,
    Batch,
    Columns,
    Verdicts,
    batches,
    sample_index,
    tables,
)
from datapipe.run.info import load_info

FORMAT = 1
BATCH = 5_000
STAGES = ("prepare", "synthesize", "score")
_COLUMNS = Columns(
    ledger="key, identities",
    references="* EXCLUDE (embedding, aesthetic_scorer, recogniser, pose_estimator)",
    views="* EXCLUDE (seed, aesthetic_scorer, recogniser, pose_estimator)",
)


@dataclass(frozen=True)
class OutcomeStats:
    """Videos that ended alike."""

    outcome: str
    reason: str | None
    videos: int
    examples: list[str]
    """The first three keys."""


@dataclass(frozen=True)
class StageStats:
    """Worker seconds of a stage, over the videos that went through it."""

    stage: str
    videos: int
    total: float
    mean: float
    median: float
    p95: float


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


@dataclass
class Stats:
    """Everything `harmoview stats` knows."""

    rules: Mapping[str, Any]
    videos: int = 0
    candidates: int = 0
    identities: int = 0
    samples_kept: int = 0
    identities_kept: int = 0
    identity_reasons: Counter[str] = field(default_factory=Counter)
    """Why identities are left out."""
    yaws: dict[int, YawStats] = field(default_factory=dict)
    outcomes: list[OutcomeStats] = field(default_factory=list)
    seconds: list[StageStats] = field(default_factory=list)
    packed: Totals | None = None
    """Of RUN/shards, where it is complete."""
    packed_with_these_rules: bool | None = None

    def views(self, what: str) -> int:
        """The sum over the yaws of "made", "detected", "passed" or "kept"."""
        return sum(getattr(yaw, what) for yaw in self.yaws.values())

    def as_dict(self) -> dict[str, Any]:
        """JSON types; `docs/stats.md` describes them."""
        return {
            "format": FORMAT,
            "funnel": {
                "videos": self.videos,
                "candidates": self.candidates,
                "identities": self.identities,
                "views_made": self.views("made"),
                "views_detected": self.views("detected"),
                "views_passed": self.views("passed"),
                "views_kept": self.views("kept"),
                "identities_kept": self.identities_kept,
                "samples_kept": self.samples_kept,
            },
            "yaws": [
                {**vars(yaw), "yield": yaw.share, "reasons": dict(yaw.reasons.most_common())}
                for _, yaw in sorted(self.yaws.items())
            ],
            "identity_reasons": dict(self.identity_reasons.most_common()),
            "outcomes": [asdict(outcome) for outcome in self.outcomes],
            "seconds": [asdict(stage) for stage in self.seconds],
            "packed": asdict(self.packed) if self.packed else None,
            "packed_with_these_rules": self.packed_with_these_rules,
            "rules": dict(self.rules),
        }


def run_stats(run: Folder, rules: AppliedRules) -> Stats:
    """Count everything. Raises UserError when the run cannot be read or lacks scores."""
    stats = Stats(rules.described)
    with tables(run, load_info(run)) as connection:
        stats.outcomes = _outcomes(connection)
        stats.videos = sum(outcome.videos for outcome in stats.outcomes)
        stats.seconds = [found for stage in STAGES if (found := _stage(connection, stage))]
        for batch in batches(connection, BATCH, _COLUMNS):
            _count(stats, batch, rules.decide(batch.references, batch.views))
    shards = run.folder("shards")
    if shards.exists("manifest.json"):
        manifest = load_manifest(shards)
        stats.packed = manifest.totals
        stats.packed_with_these_rules = manifest.rules == rules.described
    return stats


def _outcomes(connection: duckdb.DuckDBPyConnection) -> list[OutcomeStats]:
    rows = connection.execute(
        "SELECT outcome, reason, count(*) AS videos, min(key, 3) FROM ledger "
        "GROUP BY outcome, reason ORDER BY outcome, videos DESC, reason"
    ).fetchall()
    return [OutcomeStats(*row) for row in rows]


def _stage(connection: duckdb.DuckDBPyConnection, stage: str) -> StageStats | None:
    column = f"{stage}_seconds"
    row = connection.execute(
        f"SELECT count({column}), sum({column}), avg({column}), "
        f"quantile_cont({column}, 0.5), quantile_cont({column}, 0.95) FROM ledger"
    ).fetchone()
    return StageStats(stage, *row) if row and row[0] else None


def _count(stats: Stats, batch: Batch, verdicts: Verdicts) -> None:
    stats.candidates += len(batch.candidates)
    stats.identities += len(batch.references)
    kept = batch.references.filter(pc.is_null(verdicts.identities))
    stats.identities_kept += len(kept)
    stats.samples_kept += len(set(sample_index(batch.candidates, kept).tolist()))
    left_out = verdicts.identities.dictionary_decode().drop_null()
    for entry in left_out.value_counts().to_pylist():
        stats.identity_reasons[entry["values"]] += entry["counts"]
    table = pa.table(
        {
            "yaw": batch.views["yaw"],
            "detected": batch.views["detected"],
            "reason": verdicts.views.dictionary_decode(),
            "kept": verdicts.kept,
        }
    )
    groups = table.group_by(table.column_names).aggregate([([], "count_all")])
    for group in groups.to_pylist():
        yaw = stats.yaws.setdefault(group["yaw"], YawStats(group["yaw"]))
        count = group["count_all"]
        yaw.made += count
        yaw.detected += count * group["detected"]
        yaw.kept += count * group["kept"]
        if group["reason"] is None:
            yaw.passed += count
        else:
            yaw.reasons[group["reason"]] += count
