"""The line's entry: a sample that is already stored needs no decoding."""

from __future__ import annotations

from datapipe.record import Sample
from datapipe.run.store import CandidateStore
from datapipe.stage import Stage


class PrepareUnlessStored:
    """Prepare, for samples without a stored candidate; the others go on with what is stored."""

    name = "prepare"

    def __init__(self, prepare: Stage, store: CandidateStore) -> None:
        self.prepare = prepare
        self.store = store
        self.resources = prepare.resources

    def setup(self) -> None:
        self.prepare.setup()

    def __call__(self, sample: Sample) -> Sample:
        stored = self.store.find(sample.key)
        return self.prepare(sample) if stored is None else stored.sample
