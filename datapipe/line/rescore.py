"""Measuring a run's candidates again: a new generation of scores beside the current one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import pyarrow.compute as pc
import pyarrow.parquet as pq

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.line.executor import Line
from datapipe.record import Sample, Source
from datapipe.run.info import RunInfo, Scoring, save_info
from datapipe.run.ledger import KeySet, append_scores

SEGMENT_ROWS = 512


@dataclass(frozen=True)
class Unscored:
    """A listing for the executor: candidates without scores of a generation."""

    run: str
    generation: int
    segments: tuple[str, ...]
    """The score segments that existed when the work began."""

    def __call__(self) -> Iterator[Sample]:
        run = Folder(self.run)
        scored = KeySet(_column(run, name) for name in self.segments)
        for name in run.names("ledger/*.parquet"):
            with run.open(name) as file:
                table = pq.read_table(file, columns=["key", "candidate", "outcome"])
            for row in table.filter(pc.equal(table["outcome"], "candidate")).to_pylist():
                if row["key"] not in scored:
                    # the stage reads the rest of the record from the candidate itself
                    yield Sample(row["key"], Source("", ""), candidate=row["candidate"])


def begin(run: Folder, info: RunInfo, scoring: Scoring) -> RunInfo:
    """Start a new generation, or continue the one under way if it has the same scorers."""
    current = info.scoring.generation
    wanted = replace(scoring, generation=current + 1)
    keep = {current, wanted.generation} if info.rescoring == wanted else {current}
    _delete_but(run, keep)
    started = replace(info, rescoring=wanted)
    save_info(run, started)
    return started


def rescore(run: Folder, info: RunInfo, line: Line, show: Callable[[Counter[str]], None]) -> int:
    """Score what has no scores of the new generation, then make that the current one.

    Returns how many candidates were scored by this call. Raises UserError when one of them cannot
    be scored; the run then keeps its earlier scores, and running again tries only what is left.
    """
    scoring = info.rescoring
    if scoring is None:
        raise ValueError("begin() comes first")
    generation = scoring.generation
    failed: list[Sample] = []
    counts: Counter[str] = Counter()
    for attempt in ("run", "retry"):
        todo = Unscored(run.url, generation, _segments(run, generation))
        samples = line.run(todo) if attempt == "run" else line.retry(todo)
        failed = _write(run, scoring, samples, counts, show)
        if not any(True for _ in Unscored(run.url, generation, _segments(run, generation))()):
            break
    lost = list(Unscored(run.url, generation, _segments(run, generation))())
    if lost:
        why = {s.key: s.stopped.detail for s in failed if s.stopped is not None}
        first = lost[0].key
        raise UserError(
            f"{len(lost)} candidates could not be scored, so the run keeps its earlier scores; "
            f"the first is {first}: {why.get(first, 'its worker died')}"
        )
    save_info(run, replace(info, scoring=scoring, rescoring=None))
    _delete_but(run, {generation})
    return counts["candidate"]


def _write(
    run: Folder,
    scoring: Scoring,
    samples: Iterator[Sample],
    counts: Counter[str],
    show: Callable[[Counter[str]], None],
) -> list[Sample]:
    """Write scores in segments; returns the samples that could not be scored."""
    waiting: list[Sample] = []
    failed: list[Sample] = []
    number = len(_segments(run, scoring.generation))

    def flush() -> None:
        nonlocal number
        if waiting:
            # numbered apart from the segments that `synthesize` appends to the same generation
            name = f"g{scoring.generation:04d}-r{number:06d}.parquet"
            append_scores(run, waiting, dict(scoring.labels), name)
            number += 1
            waiting.clear()

    try:
        for sample in samples:
            counts[sample.outcome] += 1
            (waiting if sample.stopped is None else failed).append(sample)
            if len(waiting) >= SEGMENT_ROWS:
                flush()
            show(counts)
    finally:
        flush()
    return failed


def _segments(run: Folder, generation: int) -> tuple[str, ...]:
    """Of the references, which are written after the views of the same segment."""
    return tuple(run.names(f"references/g{generation:04d}-*.parquet"))


def _delete_but(run: Folder, generations: set[int]) -> None:
    """Delete the scores of every other generation, also what a killed driver left of older ones."""
    keep = {f"g{generation:04d}" for generation in generations}
    for table in ("references", "views"):
        for name in run.names(f"{table}/*.parquet"):
            if PurePosixPath(name).name.partition("-")[0] not in keep:
                run.delete(name)


def _column(run: Folder, name: str) -> list[str]:
    with run.open(name) as file:
        return list(pq.read_table(file, columns=["key"])["key"].to_pylist())
