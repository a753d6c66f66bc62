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
    """Do what is left to do; afterwards the ledger holds every key of the listing.

    A sample lost with its worker twice is tried once more, with no other sample at its worker; if
    that worker dies too, the sample is recorded as an `error` with one of the reasons above.
    Raises UserError when the run cannot go on; what was done until then is recorded.
    """
    while _record(line.run(todo), recorder, show) > todo.part / 2:
        todo = replace(todo, segments=recorder.ledger.segments)
    if not any(True for _ in todo.missing()):
        return
    todo = replace(todo, segments=recorder.ledger.segments)
    _record(line.retry(todo), recorder, show)
    _record((s.stop("error", *died(s, line)) for s in todo.missing()), recorder, show)


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
