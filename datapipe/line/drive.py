"""One run from start to finish: what is left to do, the line, the ledger, and what went missing.

What is left is the corpus without the keys that the ledger holds. Samples are recorded as they come
out; those that never do, because they took their worker along, are found by their missing keys.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from datapipe.corpus import corpus
from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.line.line import Line
from datapipe.record import Sample
from datapipe.run.info import FIRST, RunInfo, Survey
from datapipe.run.tables import KeySet, Ledger

SEGMENT_ROWS = 512
"""Samples of a ledger segment, at most."""
SEGMENT_SECONDS = (10.0, 600.0)
"""A killed driver forgets at most this much; the candidates themselves are stored already. Segments
grow longer with their number, so that a run of weeks does not leave millions of them."""

ERRORS_SEEN = 50
ERROR_SHARE = 0.2
"""More errors than this, over at least that many samples, mean the run itself is broken."""
RECENT = 500
"""Samples that the share is taken over: a run may break after days of going well."""

Show = Callable[[Counter[str]], None]
"""Told how many samples have ended in which outcome."""
WHY = {
    "worker_died": "the worker died with this sample three times: see the system log for the cause",
    "timed_out": "took longer than --sample-seconds three times: its worker's log says at what",
    "out_of_memory": "its worker came to hold more than --worker-gigabytes three times",
}
"""Reasons of `error` rows of samples that lost their worker, and what their details say."""


@dataclass(frozen=True)
class Remaining:
    """What is left to do, as a listing for the line: a part of it, and all of it by key.

    A part is the same samples each time, whatever is recorded meanwhile: Ray may run the listing
    again after a lost node and then counts on the same order.
    """

    corpus: str
    run: str
    segments: int
    """The ledger segments that existed when the run began."""
    limit: int | None = None
    """Only the first so many videos of the corpus."""
    part: int = 500_000
    """Samples of a part, at most: Ray Data keeps some 3 kB in the driver for each."""
    caption_field: str | None = None
    """Where captions stand, as `corpus` takes it."""

    def __call__(self) -> Iterator[Sample]:
        """The samples of the part."""
        before = self._recorded(self.segments)
        return self._part(before, before)

    def missing(self) -> Iterator[Sample]:
        """Those of the part that are not in the ledger even now."""
        now = self._recorded()
        return (
            sample
            for sample in self._part(self._recorded(self.segments), now)
            if sample.key not in now
        )

    def left(self) -> Iterator[str]:
        """The keys of all that was left when the run began, beyond this part too."""
        recorded = self._recorded(self.segments)
        every = (sample.key for sample in self.listed(lambda key: False))
        return (key for key in every if key not in recorded)

    def surveyed(self, survey: Survey) -> Iterator[bool]:
        """Of each video whether it was left when the run began; the survey grows meanwhile.

        Captions are read of the first few.
        """
        recorded, asked = self._recorded(self.segments), set[str]()

        def captioned(key: str) -> bool:
            wanted = key not in recorded and len(asked) < FIRST
            if wanted:
                asked.add(key)
            return wanted

        found = corpus(self.corpus, self.caption_field)
        for sample in islice(found.samples(captioned, survey.passed_over), self.limit):
            survey.videos += 1
            listed_with_it = found.form != "folder" or sample.source.member is not None
            if sample.key in asked or (listed_with_it and survey.videos <= FIRST):
                survey.look_at(sample)
            yield sample.key not in recorded
        survey.complete = True

    def listed(self, captioned: Callable[[str], bool]) -> Iterator[Sample]:
        """All samples, recorded or not; captions are read where the key is `captioned`."""
        return islice(corpus(self.corpus, self.caption_field).samples(captioned), self.limit)

    def _part(self, before: KeySet, done: KeySet) -> Iterator[Sample]:
        """What was left `before`; captions cost a request each, and are not read of what is
        `done`.
        """
        every = self.listed(lambda key: key not in done)
        return islice((sample for sample in every if sample.key not in before), self.part)

    def _recorded(self, segments: int | None = None) -> KeySet:
        return KeySet(Ledger(Folder(self.run)).recorded_keys(segments))


class RecentErrors:
    """Of the last samples, how many failed."""

    def __init__(self) -> None:
        self._failed: deque[bool] = deque(maxlen=RECENT)

    def add(self, failed: bool) -> bool:
        """Count a sample; returns whether errors are the rule now rather than the exception."""
        self._failed.append(failed)
        return self.seen >= ERRORS_SEEN and self.count > ERROR_SHARE * self.seen

    @property
    def seen(self) -> int:
        return len(self._failed)

    @property
    def count(self) -> int:
        return sum(self._failed)


class Recorder:
    """Collects samples into ledger segments and counts outcomes."""

    def __init__(self, ledger: Ledger, labels: Mapping[str, str], generation: int) -> None:
        """`labels` name the judges of the scores (see `datapipe.run.tables.VIEWS`)."""
        self.ledger = ledger
        self.labels = dict(labels)
        self.generation = generation
        self.outcomes: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._recent = RecentErrors()
        self._waiting: list[Sample] = []
        self._since = time.monotonic()

    def add(self, sample: Sample) -> None:
        """Record a sample. Raises UserError when errors are the rule rather than the exception."""
        self._waiting.append(sample)
        self.outcomes[sample.outcome] += 1
        failed = sample.stopped is not None and sample.outcome == "error"
        if sample.stopped is not None and failed:
            self._errors[_last_line(sample.stopped.detail)] += 1
        least, most = SEGMENT_SECONDS
        patience = min(most, max(least, self.ledger.segments / 10))
        late = time.monotonic() - self._since > patience
        if late or len(self._waiting) >= SEGMENT_ROWS:
            self.flush()
        if self._recent.add(failed):
            self.flush()
            raise UserError(self._summary())

    def flush(self) -> None:
        """Write what is waiting as one segment."""
        if self._waiting:
            self.ledger.append(self._waiting, self.labels, self.generation)
        self._waiting = []
        self._since = time.monotonic()

    def _summary(self) -> str:
        worst = "\n".join(f"  {count} × {text}" for text, count in self._errors.most_common(5))
        return (
            f"stopped: {self._recent.count} of the last {self._recent.seen} samples ended in an "
            f"error, so something is wrong with the run itself. Most frequent:\n{worst}\nMend it, "
            "then run the same command with --retry-errors."
        )


def _last_line(text: str) -> str:
    return text.strip().rsplit("\n", 1)[-1][:200]


def recorder(run: Folder, info: RunInfo, *, retry_errors: bool) -> Recorder:
    """Where a run's samples are recorded from now on; what a killed driver left is cleared away.

    With `retry_errors` samples that ended in an error are left to do again.
    """
    ledger = Ledger(run)
    ledger.recover(info.scoring.generation)
    if retry_errors:
        ledger.drop_errors()
    return Recorder(ledger, info.scoring.labels, info.scoring.generation)


def drive(line: Line, remaining: Remaining, into: Recorder, show: Show) -> None:
    """Do what is left to do, in parts; afterwards the ledger holds every key of the listing.

    A sample lost with its worker twice is tried once more, with no other sample at its worker; if
    that worker dies too, the sample is recorded as an `error` with one of the reasons in `WHY`.
    Raises UserError when the run cannot go on; what was done until then is recorded.
    """
    while _part(line, remaining, into, show) >= remaining.part:
        remaining = replace(remaining, segments=into.ledger.segments)


def _part(line: Line, remaining: Remaining, into: Recorder, show: Show) -> int:
    """How many samples were recorded: `remaining.part`, unless these were the last."""
    done = _record(line.run(remaining), into, show)
    if lost := sum(1 for _ in remaining.missing()):
        # what is not recorded now begins with them
        again = replace(remaining, segments=into.ledger.segments, part=lost)
        done += _record(line.retry(again), into, show)
        dead = (sample.stop("error", *give_up(sample, line)) for sample in again.missing())
        done += _record(dead, into, show)
    return done


def give_up(sample: Sample, line: Line) -> tuple[str, str]:
    """Reason and detail of a sample that lost its worker each time; the line counts it."""
    reason = line.ended.get(sample.key, "worker_died")
    line.count_lost(sample.stop("error", reason, WHY[reason]))
    return reason, WHY[reason]


def _record(samples: Iterable[Sample], into: Recorder, show: Show) -> int:
    """How many samples were recorded."""
    before = into.outcomes.total()
    try:
        for sample in samples:
            into.add(sample)
            show(into.outcomes)
    finally:
        into.flush()
    return into.outcomes.total() - before
