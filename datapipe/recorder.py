"""Writes finished samples to the ledger as they come, and notices when a run goes wrong."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping

from datapipe.errors import UserError
from datapipe.ledger import Ledger
from datapipe.record import Sample

SEGMENT_ROWS = 512
SEGMENT_SECONDS = 10.0
"""A killed driver forgets at most this much; the candidates themselves are stored already."""

ERRORS_SEEN = 50
ERROR_SHARE = 0.2
"""More errors than this, over at least that many samples, mean the run itself is broken."""


class Recorder:
    """Collects samples into ledger segments and counts outcomes."""

    def __init__(self, ledger: Ledger, labels: Mapping[str, str], generation: int) -> None:
        self.ledger = ledger
        self.labels = dict(labels)
        self.generation = generation
        self.outcomes: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self._waiting: list[Sample] = []
        self._since = time.monotonic()

    def add(self, sample: Sample) -> None:
        """Record a sample. Raises UserError when errors are the rule rather than the exception."""
        self._waiting.append(sample)
        self.outcomes[sample.outcome] += 1
        if sample.stopped is not None and sample.outcome == "error":
            self.errors[_last_line(sample.stopped.detail)] += 1
        late = time.monotonic() - self._since > SEGMENT_SECONDS
        if late or len(self._waiting) >= SEGMENT_ROWS:
            self.flush()
        seen, failed = self.outcomes.total(), self.outcomes["error"]
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
            f"stopped: {failed} of {seen} samples ended in an error, so something is wrong with "
            f"the run itself. Most frequent:\n{worst}\nMend it, then run the same command with "
            "--retry-errors."
        )


def _last_line(text: str) -> str:
    return text.strip().rsplit("\n", 1)[-1][:200]
