"""The whole story of one sample: its source, its reference and views, every decision on them.

One sample's rows, found in a run of any size.

In which shard a packed sample is.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import duckdb

from datapipe.corpus import open_source
from datapipe.errors import BadSample, UserError
from datapipe.files import Folder
from datapipe.record import Scores, Source
from datapipe.run.info import RunInfo, load_info
from datapipe.run.ledger import ledger_segments
from datapipe.run.store import Candidate, CandidateStore, DamagedCandidate
from datapipe.run.tables import parquet, tables
from datapipe.tar import TarReader
from dataset.inspect.sheet import Explain, IdentityNotes, Note, SheetLine, draw_sheet, jpeg
from dataset.pack.manifest import Manifest

Row = Mapping[str, Any]
NEAREST = 5
THREADS = 16
"""Most of the time goes into opening files, also on a disk."""


@dataclass(frozen=True, slots=True)
class SampleRows:
    """What the tables hold of one sample."""

    info: RunInfo
    ledger: Row
    references: list[Row]
    """By identity; with their embeddings left out."""
    views: list[Row]
    """By identity and yaw."""


def find_rows(run: Folder, key: str) -> SampleRows:
    """The rows of a sample by the current scorers.

    Reads the key column of the whole ledger, and of the scores only the segment it leads to.
    Raises UserError when the run cannot be read, and naming the nearest keys when it has not this
    one.
    """
    info = load_info(run)
    with tables(run, info) as connection:
        connection.execute(f"SET threads = {THREADS}")
        segments = ledger_segments(run)
        found = _where(connection, run, segments, key)
        if found is None:
            raise UserError(_unknown(connection, run, key))
        (ledger,) = _rows(connection, run, f"ledger/{found}", key, "*", "key")
        references: list[Row] = []
        views: list[Row] = []
        segment = _scored(connection, run, info.scoring.generation, found, key)
        if segment is not None:
            lean = "* EXCLUDE (embedding)"
            references = _rows(connection, run, f"references/{segment}", key, lean, "identity")
            views = _rows(connection, run, f"views/{segment}", key, "*", "identity, yaw")
    return SampleRows(info, ledger, references, views)


def _scored(
    connection: duckdb.DuckDBPyConnection, run: Folder, generation: int, segment: str, key: str
) -> str | None:
    """The segment with a sample's scores: the ledger's own, or one of `harmoview score`."""
    prefix = f"g{generation:04d}-"
    if run.exists(f"references/{prefix}{segment}"):
        return prefix + segment
    return _where(connection, run, run.names(f"references/{prefix}r*.parquet"), key)


def _where(
    connection: duckdb.DuckDBPyConnection, run: Folder, names: list[str], key: str
) -> str | None:
    """The name, without its folder, of the file that holds a key."""
    if not names:
        return None
    # the key alone: reading every column of every file takes twice as long
    query = f"SELECT filename FROM {parquet(run, names)} WHERE key = ? LIMIT 1"
    found = connection.execute(query, [key]).fetchall()
    return str(found[0][0]).rsplit("/", 1)[-1] if found else None


def _rows(
    connection: duckdb.DuckDBPyConnection,
    run: Folder,
    name: str,
    key: str,
    columns: str,
    order: str,
) -> list[Row]:
    query = f"SELECT {columns} FROM {parquet(run, [name])} WHERE key = ? ORDER BY {order}"
    table = connection.sql(query, params=[key]).to_arrow_table()
    return list(table.to_pylist())


def _unknown(connection: duckdb.DuckDBPyConnection, run: Folder, key: str) -> str:
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


def shard_of(shards: Folder, manifest: Manifest, key: str) -> str | None:
    """The shard of a sample that passed the rules of the pack; None if pack did not take it.

    Shards follow the order of the keys, so this reads the first header of a few. Only where pack
    skipped samples, had a cap or made splits, it reads every header of the one, to see.
    Raises UserError when one of them is missing or damaged.
    """
    parts: dict[str, list[str]] = {}
    for shard in manifest.shards:
        parts.setdefault(shard.name.rpartition("/")[0], []).append(shard.name)
    totals = manifest.totals
    certain = len(parts) == 1 and not totals.skipped and not totals.over_cap
    for names in parts.values():
        name = _last_from(shards, names, key)
        if name is not None and (certain or key in _keys(shards, name)):
            return name
    return None


def _last_from(shards: Folder, names: list[str], key: str) -> str | None:
    """The last shard that begins with `key` or before it."""
    before, after = 0, len(names)
    while before < after:
        middle = (before + after) // 2
        if next(_keys(shards, names[middle]), "") <= key:
            before = middle + 1
        else:
            after = middle
    return names[before - 1] if before else None


def _keys(shards: Folder, name: str) -> Iterator[str]:
    """Of every member of a shard, in its order."""
    try:
        with shards.open(name) as file:
            for member in TarReader(file):
                yield member.name.partition(".")[0]
    except (OSError, tarfile.TarError) as wrong:
        raise UserError(
            f"{shards.path(name)} cannot be read: {wrong}; `harmoview verify {shards.url}` "
            "says what is wrong with the shards"
        ) from wrong


FORMAT = 1
_SCORES = tuple(Scores.__dataclass_fields__)
_SOURCE = ("path", "suffix", "member", "offset", "size")


@dataclass(frozen=True, slots=True)
class Clip:
    """The video as it is now."""

    looked: bool
    """Not at one on another storage than the run's: there may be no credentials for it here."""
    bytes: int | None = None
    problem: str | None = None
    """Why it cannot be read, or that it is another one than was prepared."""


@dataclass(frozen=True, slots=True)
class Packed:
    """What became of the sample in RUN/shards."""

    shard: str | None
    why_not: str | None
    """Where `shard` is None."""


@dataclass(frozen=True, slots=True)
class Story:
    """Everything that a run knows of one sample."""

    rows: SampleRows
    clip: Clip
    candidate: Candidate | None
    problem: str | None
    """What is wrong with the candidate or its scores."""
    notes: tuple[IdentityNotes, ...]
    """What the rules say; empty where there are no complete scores."""
    packed: Packed | None
    """None where there is no finished pack."""

    @property
    def row(self) -> Row:
        return self.rows.ledger

    def views_of(self, identity: int) -> dict[int, Row]:
        return {row["yaw"]: row for row in self.rows.views if row["identity"] == identity}

    def lines(self) -> list[SheetLine]:
        """For drawing: reference and views of each identity."""
        return [
            SheetLine(
                key=self.row["key"],
                index=index,
                notes=notes,
                pictures=self.candidate.pictures[index] if self.candidate else None,
                reference=self.rows.references[index],
                measured=self.views_of(index),
            )
            for index, notes in enumerate(self.notes)
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
            "source": {name: row[_column(name)] for name in _SOURCE},
            "clip": asdict(self.clip),
            "seconds": {stage: row[f"{stage}_seconds"] for stage in stages},
            "others": row["others"],
            "candidate": row["candidate"],
            "problem": self.problem,
            "provenance": dict(self.candidate.provenance) if self.candidate else None,
            "scorers": dict(self.rows.info.scoring.scorers),
            "identities": [self._identity(index) for index in range(len(self.notes))],
            "packed": asdict(self.packed) if self.packed else None,
        }

    def _identity(self, index: int) -> dict[str, Any]:
        notes, own = self.notes[index], self.rows.references[index]
        reference: dict[str, Any] = {
            "timestamp": own["timestamp"],
            "frame": own["frame"],
            "seen": own["seen"],
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
            "decision": _decision(notes.verdict),
            "reference": {
                **reference,
                "scores": _scores(own),
                "decision": _decision(notes.reference),
            },
            "views": [
                {
                    "yaw": yaw,
                    "seed": view["seed"],
                    "scores": _scores(view),
                    "decision": _decision(notes.views[yaw]),
                }
                for yaw, view in sorted(self.views_of(index).items())
            ],
        }


def tell(run: Folder, key: str, explain: Explain, packed: tuple[Manifest, Explain] | None) -> Story:
    """Find out everything about a sample; `packed` is the pack in RUN/shards and its rules.

    Raises UserError when the run cannot be read or has no such sample.
    """
    rows = find_rows(run, key)
    clip = _clip(run, rows.ledger)
    if rows.ledger["outcome"] != "candidate":
        return Story(rows, clip, None, None, (), None)
    candidate, problem = _candidate(run, rows)
    if not _complete(rows):
        incomplete = "it has no complete scores; `harmoview score RUN` measures what is missing"
        return Story(rows, clip, candidate, problem or incomplete, (), None)
    notes = tuple(explain(rows.references, rows.views))
    return Story(rows, clip, candidate, problem, notes, _packed(run, rows, packed))


def _candidate(run: Folder, rows: SampleRows) -> tuple[Candidate | None, str | None]:
    name = rows.ledger["candidate"]
    store = CandidateStore(run, rows.info.settings_hash)
    try:
        candidate = store.read(name)
    except FileNotFoundError:
        return None, f"{run.path(name)} is missing"
    except DamagedCandidate as damaged:
        return None, str(damaged)
    if len(candidate.pictures) != rows.ledger["identities"]:
        return None, f"{run.path(name)} holds other identities than the ledger says"
    return candidate, None


def _complete(rows: SampleRows) -> bool:
    """Whether pack would take these scores: every identity once, with views, none of them twice."""
    identities = list(range(rows.ledger["identities"]))
    views = [(row["identity"], row["yaw"]) for row in rows.views]
    return (
        [row["identity"] for row in rows.references] == identities
        and {identity for identity, _ in views} == set(identities)
        and len(set(views)) == len(views)
    )


def _packed(
    run: Folder, rows: SampleRows, packed: tuple[Manifest, Explain] | None
) -> Packed | None:
    if packed is None:
        return None
    manifest, explain = packed
    notes = explain(rows.references, rows.views)
    if all(identity.verdict.reason for identity in notes):
        whys = ", ".join(str(identity.verdict.reason) for identity in notes)
        return Packed(None, f"left out by the rules of the pack: {whys}")
    shard = shard_of(run.folder("shards"), manifest, rows.ledger["key"])
    return Packed(shard, None if shard else "passes the rules of the pack, but pack skipped it")


def _clip(run: Folder, row: Row) -> Clip:
    source = Source(**{name: row[_column(name)] for name in _SOURCE})
    if _storage(source.path) not in ("", _storage(run.url)):
        return Clip(looked=False)
    # a whole file is measured again: it may have changed since
    whole = replace(source, size=None) if source.member is None else source
    try:
        with open_source(whole) as (file, size):
            file.read(1)
    except BadSample as gone:
        return Clip(True, problem=gone.detail)
    except OSError as wrong:
        return Clip(True, problem=f"{source}: {wrong}")
    if source.size not in (None, size):
        changed = f"it has {size:,} bytes, and had {source.size:,} when it was prepared"
        return Clip(True, size, changed)
    return Clip(True, size)


def _storage(url: str) -> str:
    return url.partition("://")[0] if "://" in url else ""


def _column(name: str) -> str:
    return name if name == "suffix" else f"source_{name}"


def _decision(note: Note) -> dict[str, Any]:
    return {"passed": note.reason is None, "reason": note.reason, "detail": note.detail}


def _scores(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in _SCORES}
