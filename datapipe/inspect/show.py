"""The whole story of one sample: its source, its reference and views, every decision on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from datapipe.corpus import open_source
from datapipe.errors import BadSample
from datapipe.files import Folder
from datapipe.inspect.sheet import Explain
from datapipe.inspect.sheet_drawing import IdentityNotes, Note, SheetLine, draw_sheet, jpeg
from datapipe.inspect.show_packed import shard_of
from datapipe.inspect.show_rows import Row, SampleRows, find_rows
from datapipe.pack.manifest import Manifest
from datapipe.record import Scores, Source
from datapipe.run.store import Candidate, CandidateStore, DamagedCandidate

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
