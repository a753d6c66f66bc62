"""What the videos of a pilot gave and took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from datapipe.errors import BadSample, UserError
from datapipe.files import Folder
from datapipe.run.info import RunInfo
from datapipe.run.store import CandidateStore, DamagedCandidate
from datapipe.run.tables import one_scoring, tables
from dataset.inspect.ledger_stats import STAGES
from dataset.judged import CandidateRows, KeptSample, judge_rows, kept_samples
from dataset.pack.payload import payload_bytes
from dataset.plan.pilot import untimed
from filters.judge_sql import TableJudge
from filters.rules import Rules


@dataclass
class PilotVideo:
    """What one video gave and took."""

    outcome: str
    reason: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Of a worker, by stage, for those that it reached."""
    untimed: frozenset[str] = frozenset()
    """Stages of which the seconds say nothing: see `dataset.plan.pilot.TimedStage`."""
    identities: int = 0
    made: Counter[int] = field(default_factory=Counter)
    """Views by yaw."""
    passed: Counter[int] = field(default_factory=Counter)
    """Those that no rule rejects."""
    real: Counter[int] = field(default_factory=Counter)
    """Identities that the video shows at a yaw other than 0."""
    packed_identities: int = 0
    packed_views: Counter[int] = field(default_factory=Counter)
    candidate_bytes: int = 0
    packed_bytes: int = 0
    """In a shard, with the clip; 0 where it is not packed."""


def measure(run: Folder, info: RunInfo, rules: Rules, keys: Sequence[str]) -> list[PilotVideo]:
    """The videos with these keys, in the order of the keys; the rest of the run is not looked at.

    Raises UserError when the run lacks one of them, or what belongs to it.
    """
    with tables(run, info) as connection:
        one_scoring(connection)
        connection.register("pilot", pa.table({"key": pa.array(keys, pa.string())}))
        ledger, references, views = (
            _rows(connection, table, order)
            for table, order in (
                ("ledger", "key"),
                ("refs", "key, identity"),
                ("views", "key, identity, yaw"),
            )
        )
        candidates = ledger.filter(pc.equal(ledger["outcome"], "candidate"))
        judged = judge_rows(CandidateRows(candidates, references, views), TableJudge(rules))
    warm = {stage: untimed(run, stage) for stage in STAGES}
    videos = {row["key"]: _video(row, warm) for row in ledger.to_pylist()}
    if len(videos) < len(set(keys)):
        raise UserError(f"{run.url} lacks some of the pilot's videos; run the same command again")
    _count(run, info, judged, videos)
    for view in views.filter(pc.equal(views["source"], "real")).to_pylist():
        if view["yaw"]:
            videos[view["key"]].real[view["yaw"]] += 1
    return [videos[key] for key in sorted(videos)]


def _rows(connection: duckdb.DuckDBPyConnection, table: str, order: str) -> pa.Table:
    query = f"FROM {table} SEMI JOIN pilot USING (key) ORDER BY {order}"
    return connection.sql(query).to_arrow_table()


def _video(row: Mapping[str, object], warm: Mapping[str, frozenset[str]]) -> PilotVideo:
    seconds = {stage: row[f"{stage}_seconds"] for stage in STAGES}
    return PilotVideo(
        outcome=str(row["outcome"]),
        reason=None if row["reason"] is None else str(row["reason"]),
        seconds={stage: float(str(took)) for stage, took in seconds.items() if took is not None},
        untimed=frozenset(stage for stage in STAGES if row["key"] in warm[stage]),
    )


def _count(
    run: Folder, info: RunInfo, judged: CandidateRows, videos: Mapping[str, PilotVideo]
) -> None:
    store = CandidateStore(run, info.settings_hash)
    for key in judged.references["key"].to_pylist():
        videos[key].identities += 1
    for view in judged.views.to_pylist():
        video = videos[view["key"]]
        video.made[view["yaw"]] += 1
        video.passed[view["yaw"]] += view["reason"] is None
    for row in judged.candidates.to_pylist():
        size = run.fs.size(run.path(row["candidate"]))
        videos[row["key"]].candidate_bytes = size
    for kept in kept_samples(judged):
        _pack(kept, store, videos[kept.key])


def _pack(kept: KeptSample, store: CandidateStore, video: PilotVideo) -> None:
    """A clip that has gone since is left out, as pack does."""
    try:
        video.packed_bytes = payload_bytes(kept, store)
    except BadSample:
        return
    except DamagedCandidate as damaged:
        raise UserError(f"{kept.key} cannot be packed: {damaged}") from damaged
    video.packed_identities = len(kept.identities)
    for identity in kept.identities.values():
        video.packed_views.update(identity.views.keys())
