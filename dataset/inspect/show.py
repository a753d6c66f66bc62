"""The whole story of one sample: its source, its reference and views, every decision on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from datapipe.corpus import open_source
from datapipe.errors import BadSample, UserError
from datapipe.files import Folder
from datapipe.record import Scores, Source, Window
from datapipe.run.info import RunInfo, load_info
from datapipe.run.store import Candidate, CandidateStore, DamagedCandidate
from dataset.inspect.contact import SheetLine, draw_sheet
from dataset.inspect.find import find_rows
from dataset.inspect.sheet import jpeg
from dataset.judged import Row, judge_rows
from dataset.pack.manifest import Manifest, shard_of
from filters.judge import IdentityVerdict, Judge, Verdict
from filters.judge_sql import TableJudge
from filters.rules import Rules

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
        reference: dict[str, Any] = {
            "timestamp": own["timestamp"],
            "frame": own["frame"],
            "transfer": own["transfer"],
            "deinterlaced": own["deinterlaced"],
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
            "decision": _decision(verdict.verdict),
            "reference": {
                **reference,
                "scores": _scores(own),
                "decision": _decision(verdict.reference),
            },
            "views": [
                {
                    "yaw": yaw,
                    **_made(view),
                    "scores": _scores(view),
                    "decision": _decision(verdict.views[yaw]),
                }
                for yaw, view in sorted(self.views_of(index).items())
            ],
            "passed_over": [
                {"yaw": row["yaw"], **_made(row), "scores": _scores(row)}
                for row in self.passed_over(index)
            ],
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
    return PackOutcome(
        shard, None if shard else "passes the rules of the pack, but pack skipped it"
    )


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


def _made(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("source", "seed", "attempt", "timestamp")}


def _scores(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in _SCORES}
