"""Writes finished samples to the ledger as they come, and notices when a run goes wrong."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping

from datapipe.errors import UserError
from datapipe.record import Sample
from datapipe.run.ledger import Ledger

SEGMENT_ROWS = 512
SEGMENT_SECONDS = (10.0, 600.0)
"""A killed driver forgets at most this much; the candidates themselves are stored already. Segments
grow longer with their number, so that a run of weeks does not leave millions of them."""

ERRORS_SEEN = 50
ERROR_SHARE = 0.2
"""More errors than this, over at least that many samples, mean the run itself is broken."""
RECENT = 500
"""Samples that the share is taken over: a run may break after days of going well."""


class Recorder:
    """Collects samples into ledger segments and counts outcomes."""

    def __init__(self, ledger: Ledger, labels: Mapping[str, str], generation: int) -> None:
        self.ledger = ledger
        self.labels = dict(labels)
        self.generation = generation
        self.outcomes: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self._recent: deque[bool] = deque(maxlen=RECENT)
        self._waiting: list[Sample] = []
        self._since = time.monotonic()

    def add(self, sample: Sample) -> None:
        """Record a sample. Raises UserError when errors are the rule rather than the exception."""
        self._waiting.append(sample)
        self.outcomes[sample.outcome] += 1
        self._recent.append(sample.outcome == "error")
        if sample.stopped is not None and sample.outcome == "error":
            self.errors[_last_line(sample.stopped.detail)] += 1
        least, most = SEGMENT_SECONDS
        patience = min(most, max(least, self.ledger.segments / 10))
        late = time.monotonic() - self._since > patience
        if late or len(self._waiting) >= SEGMENT_ROWS:
            self.flush()
        seen, failed = len(self._recent), sum(self._recent)
        if seen >= ERRORS_SEEN and failed > ERROR_SHARE * seen:
            self.flush()
            raise UserError(self._summary(seen, failed))

    def flush(self) -> None:
        """Write what is waiting as one segment."""
        if self._waiting:
            self.ledger.append(self._waiting, self.labels, self.generation)
        self._waiting = []
        self._since = time.monotonic()

    def _summary(self, seen: int, failed: int) -> str:
        worst = "\n".join(f"  {count} × {text}" for text, count in self.errors.most_common(5))
        return (
            f"stopped: {failed} of the last {seen} samples ended in an error, so something is "
            f"wrong with the run itself. Most frequent:\n{worst}\nMend it, then run the same "
            "command with --retry-errors."
        )


def _last_line(text: str) -> str:
    return text.strip().rsplit("\n", 1)[-1][:200]
