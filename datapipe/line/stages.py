"""The stages before Score: Prepare, unless the sample is stored already, and Synthesize."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from datapipe.errors import BadSample
from datapipe.pictures import decode_jpeg, encode_jpeg
from datapipe.record import Identity, Sample, View
from datapipe.run.store import CandidateStore
from datapipe.stage import Resources, Stage, ViewSynthesizer


class PrepareUnlessStored:
    """Prepares samples without a stored candidate; the others go on with what is stored.

    So a run that is continued decodes no video again whose views are there.
    """

    name = "prepare"

    def __init__(self, prepare: Stage, store: CandidateStore) -> None:
        self.prepare = prepare
        self.store = store
        self.resources = prepare.resources

    def setup(self) -> None:
        """Raises UserError as Prepare does."""
        self.prepare.setup()

    def __call__(self, sample: Sample) -> Sample:
        """Raises DamagedCandidate, and what Prepare raises."""
        stored = self.store.find(sample.key)
        if stored is None:
            return self.prepare(sample)
        return replace(stored.sample, caption_problem=sample.caption_problem)


def view_seed(run_seed: int, key: str, identity: int, yaw: int) -> int:
    """63 bits that depend on nothing but these four values."""
    text = f"{run_seed}/{key}/{identity}/{yaw}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


class Synthesize:
    """Makes the views of each identity and stores them before it lets the sample go on.

    A sample whose candidate is already stored passes without any work. An identity that the engine
    refuses is dropped and counted in `others`; the sample is rejected when none is left.
    """

    name = "synthesize"

    def __init__(
        self,
        engine: ViewSynthesizer,
        store: CandidateStore,
        *,
        yaws: Sequence[int],
        run_seed: int,
        provenance: Mapping[str, Any],
        resources: Resources,
    ) -> None:
        self.engine = engine
        self.store = store
        self.yaws = tuple(yaws)
        self.run_seed = run_seed
        self.provenance = provenance
        self.resources = resources

    def setup(self) -> None:
        """Raises UserError where the engine lacks a file."""
        self.engine.setup()

    def __call__(self, sample: Sample) -> Sample:
        """Raises BadSample where the engine refuses every identity, and UserError."""
        if sample.candidate is not None:
            return sample
        kept: list[Identity] = []
        pictures: list[dict[int, bytes]] = []
        refused: BadSample | None = None
        for identity in sample.identities:
            seeds = [view_seed(self.run_seed, sample.key, len(kept), yaw) for yaw in self.yaws]
            try:
                views = self.engine(decode_jpeg(identity.portrait), self.yaws, seeds)
            except BadSample as wrong:
                refused = wrong
                continue
            made = tuple(View(yaw, seed) for yaw, seed in zip(self.yaws, seeds, strict=True))
            kept.append(replace(identity, views=made))
            encoded = map(encode_jpeg, views)
            pictures.append(dict(zip(self.yaws, encoded, strict=True)))
        if refused is not None and not kept:
            raise refused
        others = sample.others + len(sample.identities) - len(kept)
        full = replace(sample, identities=tuple(kept), others=others)
        return self.store.put(full, pictures, self.provenance)
