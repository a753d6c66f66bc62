"""What is left to do: the corpus without the keys that the ledger holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
        before = self._recorded(self.segments)
        return self._part(before, before)

    def missing(self) -> Iterator[Sample]:
        """Those of the part that are still not in the ledger now."""
        now = self._recorded()
        return (
            sample
            for sample in self._part(self._recorded(self.segments), now)
            if sample.key not in now
        )

    def left(self) -> Iterator[str]:
        """The keys of all that is left to do, beyond this part too."""
        recorded = self._recorded(self.segments)
        every = (sample.key for sample in self.listed(lambda key: False))
        return (key for key in every if key not in recorded)

    def listed(self, captioned: Callable[[str], bool]) -> Iterator[Sample]:
        """All samples, recorded or not; captions are read where the key is `captioned`."""
        return islice(corpus(self.corpus).samples(captioned), self.limit)

    def _part(self, before: KeySet, done: KeySet) -> Iterator[Sample]:
        """What was left `before`; captions cost a request each, and are not read where `done`."""
        every = self.listed(lambda key: key not in done)
        return islice((sample for sample in every if sample.key not in before), self.part)

    def _recorded(self, segments: int | None = None) -> KeySet:
        return KeySet(Ledger(Folder(self.run)).recorded_keys(segments))
