"""The whole story of one sample: its source, its reference and views, every decision on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
from duckdb import DuckDBPyConnection

from datapipe.corpus import open_source
from datapipe.errors import BadSample, UserError
from datapipe.files import Folder
from datapipe.record import Scores, Source, Window
from datapipe.run.info import RunInfo, load_info
from datapipe.run.rows import REFERENCES, VIEWS
from datapipe.run.store import Candidate, CandidateStore, DamagedCandidate
from datapipe.run.tables import ledger_segments, parquet, tables
from dataset.inspect.contact import SheetLine, draw_sheet
from dataset.inspect.sheet import jpeg
from dataset.judged import CandidateRows, Row, judge_rows
from dataset.pack.manifest import Manifest, shard_of
from filters.judge import IdentityVerdict, Judge, Verdict
from filters.judge_sql import TableJudge
from filters.rules import Rules

NEAREST = 5
"""Keys that are named where the one asked for is not there."""
THREADS = 16
"""Most of the time goes into opening files, also on a disk."""


def find_rows(run: Folder, info: RunInfo, key: str) -> CandidateRows:
    """The rows of one sample by the current scorers, in the ledger and in the scores.

    It reads the key column of the whole ledger, and of the scores only the segment it leads to.
    Raises UserError when the run cannot be read, and one that names the nearest keys when the run
    has not this one.
    """
    with tables(run, info) as connection:
        connection.execute(f"SET threads = {THREADS}")

        def rows(name: str, columns: str, order: str) -> pa.Table:
            query = f"SELECT {columns} FROM {parquet(run, [name])} WHERE key = ? ORDER BY {order}"
            return connection.sql(query, params=[key]).to_arrow_table()

        found = _where(connection, run, ledger_segments(run), key)
        if found is None:
            raise UserError(_unknown(connection, run, key))
        ledger = rows(f"ledger/{found}", "*", "key")
        segment = _scored(connection, run, info.scoring.generation, found, key)
        if segment is None:
            return CandidateRows(ledger, REFERENCES.empty_table(), VIEWS.empty_table())
        references = rows(f"references/{segment}", "* EXCLUDE (embedding)", "identity")
        views = rows(f"views/{segment}", "*", "identity, yaw")
        windows = rows(f"windows/{segment}", "*", "identity, start")
        return CandidateRows(ledger, references, views, windows)


def _scored(
    connection: DuckDBPyConnection, run: Folder, generation: int, segment: str, key: str
) -> str | None:
    """The segment with a sample's scores: the ledger's own, or one of `harmoview score`."""
    prefix = f"g{generation:04d}-"
    if run.exists(f"references/{prefix}{segment}"):
        return prefix + segment
    return _where(connection, run, run.names(f"references/{prefix}r*.parquet"), key)


def _where(connection: DuckDBPyConnection, run: Folder, names: list[str], key: str) -> str | None:
    """The name, without its folder, of the file that holds a key."""
    if not names:
        return None
    # the key alone: reading every column of every file takes twice as long
    query = f"SELECT filename FROM {parquet(run, names)} WHERE key = ? LIMIT 1"
    found = connection.execute(query, [key]).fetchall()
    return str(found[0][0]).rsplit("/", 1)[-1] if found else None


def _unknown(connection: DuckDBPyConnection, run: Folder, key: str) -> str:
    """What to say of a key that the ledger does not hold."""
    said = f"{run.url} holds no sample {key!r}"
    if "/" in key or "." in key:  # in no key
        query = "SELECT key FROM ledger WHERE source = $1 OR ends_with(source, '/' || $1)"
        near = connection.execute(f"{query} ORDER BY key LIMIT {NEAREST}", [key]).fetchall()
        if near:
            return f"{said}; that is a path, and its key is {_names(near)}"
        return f"{said}, nor a source that ends so; keys have no dots and slashes"
    if run.exists(CandidateStore.name(key)):
        return (
            f"{said} in its ledger yet, but a candidate of it is stored: the run goes on, or was "
            "ended; the same `harmoview synthesize` command finishes it"
        )
    query = "SELECT key FROM ledger ORDER BY jaro_winkler_similarity(key, ?) DESC, key"
    near = connection.execute(f"{query} LIMIT {NEAREST}", [key]).fetchall()
    if not near:
        return f"{said}: its ledger is empty"
    return f"{said}; the nearest keys are {_names(near)}. `harmoview stats` has examples by outcome"


def _names(rows: list[tuple[Any, ...]]) -> str:
    return ", ".join(str(name) for (name,) in rows)


FORMAT = 1
_SCORES = tuple(Scores.__dataclass_fields__)
_WINDOW = tuple(Window.__dataclass_fields__)
_SOURCE = {
    "path": "source_path",
    "suffix": "suffix",
    "member": "source_member",
    "offset": "source_offset",
    "size": "source_size",
}
"""Fields of `Source`, and their columns in the ledger."""


@dataclass(frozen=True, slots=True)
class ClipNow:
    """The video as it is now."""

    looked: bool
    """Not at one on another storage than the run's: there may be no credentials for it here."""
    bytes: int | None = None
    problem: str | None = None
    """Why it cannot be read, or that it is another one than was prepared."""


@dataclass(frozen=True, slots=True)
class PackOutcome:
    """What became of the sample in RUN/shards."""

    shard: str | None
    why_not: str | None
    """Where `shard` is None."""


@dataclass(frozen=True, slots=True)
class Story:
    """Everything that a run knows of one sample."""

    info: RunInfo
    row: Row
    """Of the ledger."""
    references: list[Row]
    """By identity."""
    views: list[Row]
    """By identity and yaw."""
    clip: ClipNow
    windows: Sequence[Row] = ()
    """By identity and start."""
    shown: Sequence[Row] = ()
    """The views that count, of those at one yaw the one that the rules choose."""
    candidate: Candidate | None = None
    problem: str | None = None
    """What is wrong with the candidate or its scores."""
    verdicts: tuple[IdentityVerdict, ...] = ()
    """What the rules say; empty where there are no complete scores."""
    windows_judged: tuple[Verdict, ...] = ()
    """Of each window."""
    packed: PackOutcome | None = None
    """None where there is no finished pack."""

    def windows_of(self, identity: int) -> list[tuple[Row, Verdict]]:
        """Where it is seen, with what the rules say, in order of time."""
        judged = zip(self.windows, self.windows_judged, strict=False)
        return [pair for pair in judged if pair[0]["identity"] == identity]

    def views_of(self, identity: int) -> dict[int, Row]:
        """By yaw, those that count."""
        return {row["yaw"]: row for row in self.shown if row["identity"] == identity}

    def passed_over(self, identity: int) -> list[Row]:
        """The others: where a yaw has a real view and a synthesised one, the one not taken."""
        shown = self.views_of(identity)
        mine = (row for row in self.views if row["identity"] == identity)
        return [row for row in mine if shown[row["yaw"]]["source"] != row["source"]]

    def lines(self) -> list[SheetLine]:
        """For drawing: reference and views of each identity."""
        return [
            SheetLine(
                key=self.row["key"],
                index=index,
                verdict=verdict,
                pictures=self.candidate.pictures[index] if self.candidate else None,
                reference=self.references[index],
                measured=self.views_of(index),
                windows=self.windows_of(index),
                passed_over=self.passed_over(index),
            )
            for index, verdict in enumerate(self.verdicts)
        ]

    def picture(self) -> bytes:
        """A JPEG of every picture of the sample, or of why there is none."""
        lines, row = self.lines(), self.row
        if self.problem is not None:
            row = {**row, "reason": "problem", "detail": self.problem}
        return jpeg(draw_sheet(row["key"], lines, [] if lines else [row]))

    def as_dict(self) -> dict[str, Any]:
        """JSON types; `docs/inspect.md` describes them."""
        row = self.row
        stages = ("prepare", "synthesize", "score")
        return {
            "format": FORMAT,
            **{name: row[name] for name in ("key", "outcome", "reason", "detail", "caption")},
            "captions": row["captions"] or [],
            "caption_problem": row["caption_problem"],
            "source": {name: row[column] for name, column in _SOURCE.items()},
            "clip": asdict(self.clip),
            "seconds": {stage: row[f"{stage}_seconds"] for stage in stages},
            "others": row["others"],
            "candidate": row["candidate"],
            "problem": self.problem,
            "provenance": dict(self.candidate.provenance) if self.candidate else None,
            "scorers": dict(self.info.scoring.scorers),
            "identities": [self._identity(index) for index in range(len(self.verdicts))],
            "packed": asdict(self.packed) if self.packed else None,
        }

    def _identity(self, index: int) -> dict[str, Any]:
        verdict, own = self.verdicts[index], self.references[index]
        cut = ("timestamp", "frame", "transfer", "deinterlaced", "seen")
        reference: dict[str, Any] = {
            **{name: own[name] for name in cut},
            "pose": {name: own[f"frame_{name}"] for name in ("yaw", "pitch", "roll")},
            "sharpness": own["frame_sharpness"],
            "score": own["frame_score"],
            "box": None,
            "crop": None,
        }
        if self.candidate is not None:
            stored = self.candidate.sample.identities[index].reference
            reference |= {"box": list(stored.box), "crop": list(stored.crop)}
        return {
            "identity": index,
            "decision": _decision(verdict.verdict),
            "reference": {
                **reference,
                "scores": _scores(own),
                "decision": _decision(verdict.reference),
            },
            "views": [
                {**_view(view), "decision": _decision(verdict.views[yaw])}
                for yaw, view in sorted(self.views_of(index).items())
            ],
            "passed_over": [_view(row) for row in self.passed_over(index)],
            "windows": [
                {**{name: row[name] for name in _WINDOW}, "decision": _decision(judged)}
                for row, judged in self.windows_of(index)
            ],
        }


def tell(run: Folder, key: str, rules: Rules, packed: tuple[Manifest, Rules] | None) -> Story:
    """Find out everything about a sample; `packed` is the pack in RUN/shards and its rules.

    Raises UserError when the run cannot be read or has no such sample.
    """
    info = load_info(run)
    found = find_rows(run, info, key)
    (row,) = found.candidates.to_pylist()
    references, views = found.references.to_pylist(), found.views.to_pylist()
    windows = found.windows.to_pylist()
    story = Story(info, row, references, views, _clip(run, row), windows)
    if row["outcome"] != "candidate":
        return story
    candidate, problem = _candidate(run, info, row)
    story = replace(story, candidate=candidate, problem=problem)
    try:
        judge_rows(found, TableJudge(rules))  # raises where pack would not take these scores
    except UserError as incomplete:
        return replace(story, problem=problem or str(incomplete))
    judge = Judge(rules)
    return replace(
        story,
        shown=judge.shown(views),
        verdicts=judge.rows(references, views).identities,
        windows_judged=tuple(map(judge.window, windows)),
        packed=_packed(run, story, packed),
    )


def _candidate(run: Folder, info: RunInfo, row: Row) -> tuple[Candidate | None, str | None]:
    name = row["candidate"]
    store = CandidateStore(run, info.settings_hash)
    try:
        candidate = store.read(name)
    except FileNotFoundError:
        return None, f"{run.path(name)} is missing"
    except DamagedCandidate as damaged:
        return None, str(damaged)
    if len(candidate.pictures) != row["identities"]:
        return None, f"{run.path(name)} holds other identities than the ledger says"
    return candidate, None


def _packed(run: Folder, story: Story, packed: tuple[Manifest, Rules] | None) -> PackOutcome | None:
    if packed is None:
        return None
    manifest, rules = packed
    verdicts = Judge(rules).rows(story.references, story.views)
    if not verdicts.verdict.passed:
        whys = ", ".join(str(identity.verdict.reason) for identity in verdicts.identities)
        return PackOutcome(None, f"left out by the rules of the pack: {whys}")
    shard = shard_of(run.folder("shards"), manifest, story.row["key"])
    why_not = None if shard else "passes the rules of the pack, but pack skipped it"
    return PackOutcome(shard, why_not)


def _clip(run: Folder, row: Row) -> ClipNow:
    source = Source(**{name: row[column] for name, column in _SOURCE.items()})
    if _storage(source.path) not in ("", _storage(run.url)):
        return ClipNow(looked=False)
    # a whole file is measured again: it may have changed since
    whole = replace(source, size=None) if source.member is None else source
    try:
        with open_source(whole) as (file, size):
            file.read(1)
    except BadSample as gone:
        return ClipNow(True, problem=gone.detail)
    except OSError as wrong:
        return ClipNow(True, problem=f"{source}: {wrong}")
    if source.size not in (None, size):
        changed = f"it has {size:,} bytes, and had {source.size:,} when it was prepared"
        return ClipNow(True, size, changed)
    return ClipNow(True, size)


def _storage(url: str) -> str:
    return url.partition("://")[0] if "://" in url else ""


def _decision(verdict: Verdict) -> dict[str, Any]:
    return {"passed": verdict.passed, "reason": verdict.reason, "detail": verdict.detail}


def _view(row: Mapping[str, Any]) -> dict[str, Any]:
    made = {name: row[name] for name in ("yaw", "source", "seed", "attempt", "timestamp")}
    return {**made, "scores": _scores(row)}


def _scores(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in _SCORES}
