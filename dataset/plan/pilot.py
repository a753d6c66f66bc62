"""The videos of a pilot: drawn uniformly over a whole listing, and what they gave and took."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from datapipe.errors import BadSample, UserError
from datapipe.files import Folder
from datapipe.line.drive import Remaining
from datapipe.record import Sample, Source, Stopped
from datapipe.run.info import RunInfo
from datapipe.run.store import CandidateStore, DamagedCandidate
from datapipe.run.tables import one_scoring, tables
from datapipe.stage import Stage
from dataset.inspect.ledger_stats import STAGES
from dataset.judged import CandidateRows, KeptSample, judge_rows, kept_samples
from dataset.pack.payload import payload_bytes
from filters.judge_sql import TableJudge
from filters.rules import Rules

FORMAT = 2
NAME = "pilot/pilot.json"
TOLD_EVERY = 10_000


@dataclass(frozen=True)
class Pilot:
    """What was listed, and what was drawn from it."""

    seed: int
    videos: int
    """In the whole listing."""
    samples: tuple[Sample, ...]
    """Those with the smallest hashes, in their order: a smaller pilot is the beginning of it."""

    @property
    def keys(self) -> list[str]:
        return [sample.key for sample in self.samples]

    def first(self, samples: int) -> Pilot:
        return replace(self, samples=self.samples[:samples])


def draw(listing: Iterable[Sample], samples: int, seed: int, show: Callable[[int], None]) -> Pilot:
    """The `samples` keys with the smallest hash, which is a uniform draw without replacement.

    It depends on the keys and the seed alone, not on the order of the listing, and holds no more
    than it returns. `show` is told now and then how many videos were listed.
    """
    chosen: list[tuple[int, str, Sample]] = []
    videos = 0
    for sample in listing:
        videos += 1
        entry = (-_hash(seed, sample.key), sample.key, sample)
        if len(chosen) < samples:
            heapq.heappush(chosen, entry)
        elif entry[0] > chosen[0][0]:
            heapq.heapreplace(chosen, entry)
        if videos % TOLD_EVERY == 0:
            show(videos)
    show(videos)
    return Pilot(seed, videos, tuple(entry[-1] for entry in sorted(chosen, reverse=True)))


def _hash(seed: int, key: str) -> int:
    digest = hashlib.blake2b(f"pilot/{seed}/{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest)


def save_pilot(run: Folder, pilot: Pilot) -> None:
    """Beside the run's tables, so that the corpus need not be listed again."""
    rows = [
        {
            "key": sample.key,
            "caption": sample.caption,
            "captions": sample.captions,
            "caption_problem": sample.caption_problem,
            "source": asdict(sample.source),
            "stopped": sample.stopped and asdict(sample.stopped),
        }
        for sample in pilot.samples
    ]
    data = {"format": FORMAT, "seed": pilot.seed, "videos": pilot.videos, "samples": rows}
    run.put(NAME, (json.dumps(data, indent=1) + "\n").encode())


def load_pilot(run: Folder, samples: int, seed: int) -> Pilot | None:
    """The pilot of that seed and size; None where the corpus has to be listed for it.

    Raises UserError when pilot.json is damaged.
    """
    if not run.exists(NAME):
        return None
    try:
        data = json.loads(run.read(NAME))
        found = Pilot(data["seed"], data["videos"], tuple(map(_sample, data["samples"])))
        known = data["format"] == FORMAT and found.seed == seed
    except (ValueError, KeyError, TypeError) as wrong:
        raise UserError(
            f"{run.path(NAME)} is damaged: {wrong!r}; delete it, and the corpus is listed again"
        ) from wrong
    enough = len(found.samples) >= min(samples, found.videos)
    return found.first(samples) if known and enough else None


def _sample(row: dict[str, Any]) -> Sample:
    return Sample(
        key=row["key"],
        source=Source(**row["source"]),
        caption=row["caption"],
        captions=tuple(row["captions"]),
        caption_problem=row["caption_problem"],
        stopped=row["stopped"] and Stopped(**row["stopped"]),
    )


@dataclass(frozen=True)
class PilotRemaining(Remaining):
    """What is left to do of a pilot."""

    chosen: tuple[Sample, ...] = ()
    """What there is instead of the corpus."""

    def listed(self, captioned: Callable[[str], bool]) -> Iterator[Sample]:
        return iter(self.chosen)


class TimedStage:
    """A stage that notes which samples tell nothing of its pace.

    The first of each worker pays for compiled code and cold caches, and one whose candidate was
    stored before a driver was killed costs nothing.
    """

    def __init__(self, stage: Stage, run: Folder) -> None:
        self.stage, self.run = stage, run
        self.name = stage.name
        self.resources = replace(stage.resources, threads=1)
        """One sample at a time, or it would count the others' time on the GPU as its own."""
        self._begun = False

    def setup(self) -> None:
        self.stage.setup()

    def __call__(self, sample: Sample) -> Sample:
        if not self._begun:
            self._note(sample)
        self._begun = True
        done = self.stage(sample)
        stored = {"prepare": done.candidate, "synthesize": sample.candidate}
        if stored.get(self.name):
            self._note(sample)
        return done

    def _note(self, sample: Sample) -> None:
        self.run.put(f"pilot/untimed/{self.name}/{sample.key}", b"")


def untimed(run: Folder, stage: str) -> frozenset[str]:
    """The keys that `TimedStage` noted."""
    names = run.names(f"pilot/untimed/{stage}/*")
    return frozenset(name.rsplit("/", 1)[1] for name in names)


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
