"""What is left to do: the corpus without the keys that the ledger holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from datapipe.corpus import corpus
from datapipe.files import Folder
from datapipe.record import Sample
from datapipe.run.ledger import KeySet, Ledger


@dataclass(frozen=True)
class Todo:
    """A listing for the executor; the same samples each time, whatever is recorded meanwhile.

    Ray may run the listing again after a lost node and then counts on the same order.
    """

    corpus: str
    run: str
    segments: int
    """The ledger segments that existed when the run began."""
    limit: int | None = None
    """Only the first so many videos of the corpus."""
    part: int = 500_000
    """At most so many at a time: Ray Data keeps some 3 kB in the driver for each."""

    def __call__(self) -> Iterator[Sample]:
        return islice(self.all(), self.part)

    def all(self) -> Iterator[Sample]:
        """Without the bound on a part."""
        recorded = KeySet(Ledger(Folder(self.run)).recorded_keys(self.segments))
        for sample in islice(corpus(self.corpus), self.limit):
            if sample.key not in recorded:
                yield sample

    def missing(self) -> Iterator[Sample]:
        """Those of the part that are still not in the ledger now."""
        recorded = KeySet(Ledger(Folder(self.run)).recorded_keys())
        return (sample for sample in self() if sample.key not in recorded)
