"""One run from start to finish: the line, its ledger, and the samples that went missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from datapipe.line.executor import Line
from datapipe.line.recorder import Recorder
from datapipe.line.todo import Todo
from datapipe.record import Sample

Show = Callable[[Counter[str]], None]
WHY = {
    "worker_died": "the worker died with this sample three times: see the system log for the cause",
    "timed_out": "took longer than --sample-seconds three times: its worker's log says at what",
    "out_of_memory": "its worker came to hold more than --worker-gigabytes three times",
}
"""Reasons of `error` rows of samples that lost their worker, and what their details say."""


def drive(line: Line, todo: Todo, recorder: Recorder, show: Show) -> None:
    """Do what is left to do, in parts; afterwards the ledger holds every key of the listing.

    A sample lost with its worker twice is tried once more, with no other sample at its worker; if
    that worker dies too, the sample is recorded as an `error` with one of the reasons above.
    Raises UserError when the run cannot go on; what was done until then is recorded.
    """
    while _part(line, todo, recorder, show) >= todo.part:
        todo = replace(todo, segments=recorder.ledger.segments)


def _part(line: Line, todo: Todo, recorder: Recorder, show: Show) -> int:
    """How many samples were recorded: `todo.part`, unless these were the last."""
    done = _record(line.run(todo), recorder, show)
    if lost := sum(1 for _ in todo.missing()):
        # what is not recorded now begins with them
        again = replace(todo, segments=recorder.ledger.segments, part=lost)
        done += _record(line.retry(again), recorder, show)
        dead = (sample.stop("error", *died(sample, line)) for sample in again.missing())
        done += _record(dead, recorder, show)
    return done


def died(sample: Sample, line: Line) -> tuple[str, str]:
    """Reason and detail of a sample that lost its worker each time; the line counts it."""
    reason = line.ended.get(sample.key, "worker_died")
    line.gave_up(sample.stop("error", reason, WHY[reason]))
    return reason, WHY[reason]


def _record(samples: Iterable[Sample], recorder: Recorder, show: Show) -> int:
    """How many samples were recorded."""
    before = recorder.outcomes.total()
    try:
        for sample in samples:
            recorder.add(sample)
            show(recorder.outcomes)
    finally:
        recorder.flush()
    return recorder.outcomes.total() - before
