"""Batches for one rank: the plan read through WebDataset's pieces, from any micro-batch on."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import torch
import webdataset as wds
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import default_collate

from datapipe.concurrent import read_ahead
from datapipe.errors import UserError
from harmoview.data.encoded import (
    TRIES,
    DamagedSample,
    EncodedSample,
    EncodedShards,
    padded,
)
from harmoview.data.plan import BatchPlan, MicroBatch

AHEAD, AHEAD_FAR = 2, 8
"""Micro-batches that a loader reads at the same time, from a disk and from an object store. The
store answers late, but many requests at once; reading and checking need no interpreter lock."""


@dataclass(frozen=True)
class EncodedBatch:
    """Samples of one group, ready for the model: B samples, I identities, V slots for views."""

    epochs: tuple[int, ...]
    """How often each sample's group has been gone through before."""
    keys: tuple[str, ...]
    video: Tensor
    """[B, C, F, h, w]."""
    references: Tensor
    """[B, I, V, C, h, w]."""
    present: Tensor
    """[B, I, V], bool."""
    features: Tensor | None
    """[B, I, N, D]."""
    text: Tensor
    """[B, longest, D]: only the shorter texts are padded, until `to` or `whole_text`."""
    text_length: int
    """Tokens to which the model's texts are padded; the padding is as many bytes as the video."""
    weight: Tensor
    """[B]: 1, or 0 for a stand-in, which lets a rank skip a damaged sample without stopping."""
    damaged: tuple[str, ...] = ()
    """What is wrong with each sample that was skipped."""

    def __len__(self) -> int:
        return len(self.keys)

    def whole_text(self) -> Tensor:
        """Return the padded texts [B, text_length, D]."""
        return pad(self.text, (0, 0, 0, self.text_length - self.text.shape[1]))

    def to(self, device: torch.device, dtype: torch.dtype) -> EncodedBatch:
        """Move to a device: numbers in `dtype`, the video in float32 for the loss, whole texts."""

        def moved(tensor: Tensor, kind: torch.dtype) -> Tensor:
            return tensor.to(device, kind, non_blocking=True)

        on_device = replace(
            self,
            video=moved(self.video, torch.float32),
            references=moved(self.references, dtype),
            present=self.present.to(device),
            features=None if self.features is None else moved(self.features, dtype),
            text=moved(self.text, dtype),
            weight=moved(self.weight, torch.float32),
        )
        return replace(on_device, text=on_device.whole_text())


class BatchReader:
    """Reads micro-batches; it can be pickled for worker processes."""

    def __init__(self, data: EncodedShards, plan: BatchPlan, features: bool) -> None:
        """Reads for a model that takes `features`, or does not."""
        self._data, self._plan, self._features = data, plan, features

    def __call__(self, batches: Iterable[MicroBatch]) -> Iterator[EncodedBatch | UserError]:
        """Read ahead in order, as a stage of a `wds.DataPipeline`.

        An error goes the batches' way: raised in a worker process it would come with a traceback.
        """
        ahead = AHEAD_FAR if self._data.folder.local is None else AHEAD
        for _, batch in read_ahead(self.read, batches, ahead):
            try:
                yield batch.result()
            except UserError as wrong:
                yield wrong
                return

    def read(self, batch: MicroBatch) -> EncodedBatch:
        """Read a micro-batch. Raises UserError where nothing near a damaged sample can be read."""
        samples, weights, damaged = [], [], []
        for number in batch.samples:
            try:
                samples.append(self._data.read(number))
                weights.append(1.0)
            except DamagedSample as bad:
                damaged.append(str(bad))
                samples.append(self._stand_in(number))
                weights.append(0.0)
        texts = [sample.text for sample in samples]
        # default_collate stacks; in a worker process, into memory that the trainer shares
        return EncodedBatch(
            batch.epochs,
            tuple(sample.key for sample in samples),
            default_collate([sample.video for sample in samples]),
            default_collate([sample.references for sample in samples]),
            default_collate([sample.present for sample in samples]),
            default_collate([s.features for s in samples]) if self._features else None,
            padded(texts, max(map(len, texts))),
            self._data.manifest.settings.text_length,
            torch.tensor(weights),
            tuple(damaged),
        )

    def _stand_in(self, number: int) -> EncodedSample:
        """Read the next good sample of the group, which will not count."""
        members = self._plan.members[self._plan.groups[number]]
        place = members.index(number)
        for step in range(1, TRIES + 1):
            try:
                return self._data.read(members[(place + step) % len(members)])
            except DamagedSample:
                continue
        raise UserError(
            f"{TRIES} samples near {self._plan.keys[number]} cannot be read: "
            f"{self._data.folder.url} is damaged; encode into a new folder"
        )


class RankShare:
    """The micro-batches of one rank from a start on, as the source of a `wds.DataPipeline`."""

    def __init__(self, plan: BatchPlan, start: int, rank: int, ranks: int) -> None:
        self._plan, self._start, self._rank, self._ranks = plan, start, rank, ranks

    def __call__(self) -> Iterator[MicroBatch]:
        return islice(self._plan.stream(self._start), self._rank, None, self._ranks)


def _leave_interrupts_to_the_trainer(_worker: int) -> None:
    """A terminal sends Ctrl-C to every process; the trainer still needs batches to end its step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def batches(
    data: EncodedShards,
    plan: BatchPlan,
    *,
    start: int = 0,
    rank: int = 0,
    ranks: int = 1,
    workers: int = 0,
    features: bool = True,
) -> Iterator[EncodedBatch]:
    """Return a rank's batches, from micro-batch `start` of the plan on, without an end.

    Of R ranks, each has every R-th micro-batch, and a rank's worker processes share its
    micro-batches in the same way; the loader takes from them in turn, so that the order is the
    plan's whatever their number. Raises UserError where too much is damaged.
    """
    pipeline = wds.DataPipeline(
        RankShare(plan, start, rank, ranks), wds.split_by_worker, BatchReader(data, plan, features)
    )
    context = "spawn" if workers else None  # a fork of a process with threads and CUDA may hang
    loader = wds.WebLoader(
        pipeline,
        batch_size=None,
        num_workers=workers,
        multiprocessing_context=context,
        worker_init_fn=_leave_interrupts_to_the_trainer if workers else None,
    )
    for one in loader:
        if isinstance(one, UserError):
            raise one
        yield one
