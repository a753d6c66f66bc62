"""Measuring a run's candidates again: a new generation of scores beside the current one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.line.drive import ERROR_SHARE, RecentErrors, give_up
from datapipe.line.line import Line
from datapipe.record import Sample, Source
from datapipe.run.info import RunInfo, Scoring, save_info
from datapipe.run.rows import SCORED
from datapipe.run.tables import KeySet, ledger_segments, put_scores, put_table, score_segments

SEGMENT_ROWS = 512
"""Candidates of a segment of scores."""
PART = 1000
"""Ledger segments at a time, half a million rows: Ray Data keeps some 3 kB in the driver for each
row."""
Show = Callable[[Counter[str]], None]
"""Told how many candidates have been scored, and how many could not be."""
Failures = dict[str, tuple[str, str]]
"""Reason and detail by key."""


@dataclass(frozen=True)
class Rescored:
    """What a scoring did."""

    scored: int
    """Candidates, by this call."""
    lost: tuple[str, ...]
    """Keys of candidates that could not be scored and are `error` rows now."""


@dataclass(frozen=True)
class Unscored:
    """A listing for the line: candidates of a part without scores of a generation."""

    run: str
    ledger: Sequence[str]
    """The ledger segments whose candidates are meant."""
    scores: Sequence[str]
    """The score segments of the generation that may hold some of them already."""

    def __call__(self) -> Iterator[Sample]:
        run = Folder(self.run)
        scored = KeySet(_column(run, name) for name in self.scores)
        for name in self.ledger:
            with run.open(name) as file:
                table = pq.read_table(file, columns=["key", "candidate", "outcome"])
            for row in table.filter(pc.equal(table["outcome"], "candidate")).to_pylist():
                if row["key"] not in scored:
                    # the stage reads the rest of the record from the candidate itself
                    yield Sample(row["key"], Source("", ""), candidate=row["candidate"])


def begin_scoring(run: Folder, info: RunInfo, scoring: Scoring) -> RunInfo:
    """Start a new generation, or continue the one under way if it has the same scorers."""
    current = info.scoring.generation
    wanted = replace(scoring, generation=current + 1)
    keep = {current, wanted.generation} if info.rescoring == wanted else {current}
    _delete_but(run, keep)
    started = replace(info, rescoring=wanted)
    save_info(run, started)
    return started


def rescore(run: Folder, info: RunInfo, line: Line, show: Show) -> Rescored:
    """Score what has no scores of the new generation, then make that the current one.

    Candidates that cannot be scored, damaged ones say, become `error` rows of the ledger. Raises
    UserError when they are too many (see `datapipe.line.drive`); the run then keeps its earlier
    scores, and running again tries only what is left.
    """
    scoring = info.rescoring
    if scoring is None:
        raise ValueError("begin_scoring() comes first")
    progress = _Progress(run, scoring, show)
    ledger = ledger_segments(run)
    lost: Failures = {}
    for start in range(0, len(ledger), PART):
        progress.begin_part(ledger[start : start + PART])
        for stream in (line.run, line.retry):
            unscored = progress.unscored()
            if any(True for _ in unscored()):
                progress.write(stream(unscored))
        for sample in progress.unscored()():
            lost[sample.key] = progress.failed.get(sample.key) or give_up(sample, line)
    if len(lost) > ERROR_SHARE * (len(lost) + progress.scored()):
        raise _too_many(lost, len(lost) + progress.scored())
    if lost:
        _mark_errors(run, lost)
    save_info(run, replace(info, scoring=scoring, rescoring=None))
    _delete_but(run, {scoring.generation})
    return Rescored(progress.counts["candidate"], tuple(sorted(lost)))


class _Progress:
    """Writes scores in segments as they come, and remembers what could not be scored."""

    def __init__(self, run: Folder, scoring: Scoring, show: Show) -> None:
        self.run, self.scoring, self.show = run, scoring, show
        self.counts: Counter[str] = Counter()
        self.failed: Failures = {}
        self._recent = RecentErrors()
        self._waiting: list[Sample] = []
        self._before = self._segments()  # of earlier calls; any part's candidates may be in them
        self._next = len(self._before)
        self._ledger: Sequence[str] = ()
        self._written: list[str] = []

    def begin_part(self, ledger: Sequence[str]) -> None:
        """Go on to the candidates of these ledger segments."""
        self._ledger, self._written = ledger, []

    def unscored(self) -> Unscored:
        """A listing of what is left of the part now."""
        return Unscored(self.run.url, self._ledger, (*self._before, *self._written))

    def scored(self) -> int:
        """How many candidates have scores, by earlier calls too."""
        return len(KeySet(_column(self.run, name) for name in self._segments()))

    def _segments(self) -> list[str]:
        # of the references, which are written last of the same segment
        return score_segments(self.run, "references", self.scoring.generation)

    def write(self, samples: Iterable[Sample]) -> None:
        """Raises UserError when errors are the rule rather than the exception."""
        try:
            for sample in samples:
                self.counts[sample.outcome] += 1
                if sample.stopped is None:
                    self._waiting.append(sample)
                else:
                    self.failed[sample.key] = sample.stopped.reason, sample.stopped.detail
                if len(self._waiting) >= SEGMENT_ROWS:
                    self._flush()
                self.show(self.counts)
                if self._recent.add(sample.stopped is not None):
                    raise _too_many(self.failed, self._recent.seen)
        finally:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            # numbered apart from the segments that `synthesize` appends to the same generation
            name = f"g{self.scoring.generation:04d}-r{self._next:06d}.parquet"
            put_scores(self.run, self._waiting, dict(self.scoring.labels), name)
            self._waiting = []
            self._written.append(f"references/{name}")
            self._next += 1


def _mark_errors(run: Folder, lost: Failures) -> None:
    """Turn ledger rows into `error` rows, as the line records them."""
    for name in ledger_segments(run):
        with run.open(name) as file:
            table = pq.read_table(file)
        rows = table.to_pylist()
        if marked := [row for row in rows if row["key"] in lost]:
            for row in marked:
                row["reason"], row["detail"] = lost[row["key"]]
                row |= {"outcome": "error", "candidate": None, "identities": 0}
            put_table(run, name, pa.Table.from_pylist(rows, schema=table.schema))  # with its times


def _too_many(failed: Failures, seen: int) -> UserError:
    """What stops a scoring."""
    first = min(failed)
    return UserError(
        f"{len(failed)} of {seen} candidates could not be scored, so the run keeps its earlier "
        f"scores; the first is {first}: {failed[first][1]}\nMend it, then run this again: it "
        "continues"
    )


def _delete_but(run: Folder, generations: set[int]) -> None:
    """Delete the scores of every other generation, also what a killed driver left of older ones."""
    keep = {f"g{generation:04d}" for generation in generations}
    for table in reversed(SCORED):
        for name in run.names(f"{table}/*.parquet"):
            if PurePosixPath(name).name.partition("-")[0] not in keep:
                run.delete(name)


def _column(run: Folder, name: str) -> list[str]:
    with run.open(name) as file:
        return list(pq.read_table(file, columns=["key"])["key"].to_pylist())
