"""The stages before Score: Prepare, unless the sample is stored already, and Synthesize."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import cv2
import numpy as np

from datapipe.errors import BadSample
from datapipe.pictures import decode_jpeg, encode_jpeg
from datapipe.record import Identity, Image, Sample, View
from datapipe.run.store import CandidateStore
from datapipe.stage import MeritOfViews, Resources, Stage, ViewJudge, ViewSynthesizer


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


RealViews = Literal["keep", "instead", "off"]
"""What becomes of frames that show a person at a yaw: stored beside the engine's view, stored in
its place if the rules pass them, not looked for."""


def view_seed(run_seed: int, key: str, identity: int, yaw: int, attempt: int = 1) -> int:
    """63 bits that depend on nothing but these values."""
    text = f"{run_seed}/{key}/{identity}/{yaw}" + (f"/{attempt}" if attempt > 1 else "")
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


class Synthesize:
    """Makes the views of each identity and stores them before it lets the sample go on.

    A sample whose candidate is already stored passes without any work. An identity that the engine
    refuses is dropped and counted in `others`; the sample is rejected when none is left.

    With `real_frontal` the view at 0 is the reference itself, brought to the views' size. Without
    an engine there is no other view. Yaws that the judge does not pass are made up to `attempts`
    times, each time with another seed, and of every yaw the first with the most merit stays.

    Real views that Prepare has found are stored too: beside the synthesised ones, or with
    `instead` in place of them where the judge passes them.
    """

    name = "synthesize"

    def __init__(
        self,
        engine: ViewSynthesizer | None,
        store: CandidateStore,
        *,
        yaws: Sequence[int],
        run_seed: int,
        provenance: Mapping[str, Any],
        resources: Resources,
        real_frontal: bool = False,
        judge: ViewJudge | None = None,
        attempts: int = 1,
        instead: bool = False,
    ) -> None:
        self.engine = engine
        self.store = store
        self.yaws = tuple(yaws)
        self.run_seed = run_seed
        self.provenance = provenance
        self.resources = resources
        self.real_frontal = real_frontal
        self.judge = judge
        self.attempts = attempts
        self.instead = instead

    def setup(self) -> None:
        """Raises UserError where the engine or the judge lacks a file."""
        if self.engine is not None:
            self.engine.setup()
        if self.judge is not None:
            self.judge.setup()

    def __call__(self, sample: Sample) -> Sample:
        """Raises BadSample where the engine refuses every identity, and UserError."""
        if sample.candidate is not None:
            return sample
        kept: list[Identity] = []
        pictures: list[dict[int, bytes]] = []
        refused: BadSample | None = None
        for identity in sample.identities:
            try:
                made = self._views(sample.key, len(kept), identity)
            except BadSample as wrong:
                refused = wrong
                continue
            made = {yaw: made[yaw] for yaw in self.yaws if yaw in made}
            views = (*(view for view, _ in made.values()), *(view for view, _ in identity.cutouts))
            kept.append(replace(identity, views=views))
            pictures.append({yaw: data for yaw, (_, data) in made.items()})
        if refused is not None and not kept:
            raise refused
        others = sample.others + len(sample.identities) - len(kept)
        full = replace(sample, identities=tuple(kept), others=others)
        return self.store.put(full, pictures, self.provenance)

    def _views(self, key: str, index: int, identity: Identity) -> dict[int, tuple[View, bytes]]:
        """The views of an identity as JPEG, by yaw."""
        reference = decode_jpeg(identity.portrait)
        found: dict[int, tuple[View, bytes]] = {}
        shown = {view.yaw: data for view, data in identity.cutouts} if self.instead else {}
        judged = None
        if self.judge is not None and (shown or self.attempts > 1):
            judged = self.judge(identity.reference, reference)
        there = {0} if self.real_frontal else set()
        if shown and judged is not None:
            merits = judged({yaw: decode_jpeg(data) for yaw, data in shown.items()})
            there |= {yaw for yaw, merit in merits.items() if merit >= 1}
        yaws = [yaw for yaw in self.yaws if yaw not in there]
        if self.engine is not None and yaws:
            found = self._synthesised(self.engine, reference, key, index, yaws, judged)
        if self.real_frontal and 0 in self.yaws:
            at = identity.reference.timestamp
            made = next(iter(found.values()), None)
            side = reference.shape[0] if made is None else decode_jpeg(made[1]).shape[0]
            picture = _of_side(identity.portrait, reference, side)
            found[0] = View(0, None, source="real", timestamp=at), picture
        return found

    def _synthesised(
        self,
        engine: ViewSynthesizer,
        portrait: Image,
        key: str,
        index: int,
        yaws: Sequence[int],
        judged: MeritOfViews | None,
    ) -> dict[int, tuple[View, bytes]]:
        """The best attempt at each yaw."""
        best: dict[int, tuple[View, bytes]] = {}
        merits: dict[int, float] = {}
        for attempt in range(1, self.attempts + 1):
            seeds = [view_seed(self.run_seed, key, index, yaw, attempt) for yaw in yaws]
            pictures = engine(portrait, yaws, seeds)
            made = {
                yaw: (View(yaw, seed, attempt=attempt), encode_jpeg(picture))
                for yaw, seed, picture in zip(yaws, seeds, pictures, strict=True)
            }
            if judged is None or self.attempts == 1:
                return made
            stored = {yaw: decode_jpeg(data) for yaw, (_, data) in made.items()}
            for yaw, merit in judged(stored).items():
                if yaw not in merits or merit > merits[yaw]:
                    best[yaw], merits[yaw] = made[yaw], merit
            yaws = [yaw for yaw in yaws if merits[yaw] < 1]
            if not yaws:
                break
        return best


def _of_side(data: bytes, picture: Image, side: int) -> bytes:
    """A square picture, whose JPEG is `data`, as JPEG with `side` pixels a side."""
    if picture.shape[0] == side:
        return data
    smaller = side < picture.shape[0]
    way = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return encode_jpeg(np.asarray(cv2.resize(picture, (side, side), interpolation=way), np.uint8))
