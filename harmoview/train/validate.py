"""Losses on held-out samples: by range of noise, by number of views, and with whose references."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from harmoview.curriculum import ViewDropout, choose_views
from harmoview.data.loader import EncodedBatch
from harmoview.flow import BINS, NoiseSchedule, bin_names
from harmoview.model.context_parallel import sharers
from harmoview.train.objective import Draws, loss, seeded
from training import parallel

VIEWS = (1, 4, 7)
"""Numbers of views that are shown."""


def validate(
    model: Any,
    batches: Sequence[EncodedBatch],
    noise: NoiseSchedule,
    frontal: int,
    device: torch.device,
    dtype: torch.dtype,
    no_text: Tensor,
) -> dict[str, float]:
    """Return mean losses, the same on every worker: `noise/…`, `views/…`, `references/…`.

    `batches` hold one sample each and are the same on every worker; the workers share the work out.
    The noise of a sample depends on its key and on the batches alone, so that runs and steps can be
    compared; in each range of `flow.BINS` that the schedule reaches, its level is another one. The
    references are a sample's `own`, `none`, or those of the next held-out sample of the same group,
    `other`, which is left out where there is none.
    """
    sums: dict[str, float] = defaultdict(float)
    counts: dict[str, float] = defaultdict(float)
    cases = list(_cases(batches, noise, frontal))
    names = sorted({name for _, names, _, _ in cases for name in names})
    together = sharers(model)
    ranks, rank = parallel.processes() // together, parallel.rank() // together
    for turn in range(-(-len(cases) // ranks)):
        mine = turn * ranks + rank
        # the model is sharded, so every worker must run the same number of passes
        batch, belongs, draws, sigma = cases[min(mine, len(cases) - 1)]
        value = float(loss(model, batch.to(device, dtype), draws, no_text)[0])
        if mine < len(cases):
            for name in (*belongs, *(() if "references/own" not in belongs else (sigma,))):
                sums[name] += value
                counts[name] += 1
    names += [name for name, _ in levels(noise, 0, 1)]
    totals = {n: parallel.sum_over_all(sums[n], device) for n in names}
    numbers = {n: parallel.sum_over_all(counts[n], device) for n in names}
    return {name: totals[name] / numbers[name] for name in names if numbers[name]}


def levels(noise: NoiseSchedule, index: int, count: int) -> list[tuple[str, float]]:
    """Return the noise level of sample `index` of `count` in each range, with the range's name.

    The levels of all samples are spread evenly over that part of the range that the schedule has.
    """
    found = []
    for name, (low, high) in zip(bin_names(), pairwise(BINS), strict=True):
        low, high = max(low, noise.low), min(high, noise.high)
        if low < high:
            found.append((f"noise/{name}", low + (high - low) * (index + 0.5) / count))
    return found


def _cases(
    batches: Sequence[EncodedBatch], noise: NoiseSchedule, frontal: int
) -> Iterator[tuple[EncodedBatch, tuple[str, ...], Draws, str]]:
    """Yield each forward pass with the names of the means to which it counts."""
    for index, batch in enumerate(batches):
        other = _next_alike(batches, index)
        for at, level in levels(noise, index, len(batches)):
            for count in VIEWS:
                names = (f"views/{count}", *(("references/own",) if count == max(VIEWS) else ()))
                yield batch, names, _draws(batch, level, count, frontal), at
            nothing = _draws(batch, level, 0, frontal)
            yield batch, ("views/0", "references/none"), nothing, at
            if other is not None:
                swapped = replace(
                    batch,
                    references=other.references,
                    present=other.present,
                    features=other.features,
                )
                draws = _draws(swapped, level, max(VIEWS), frontal)
                yield swapped, ("references/other",), draws, at


def _draws(batch: EncodedBatch, level: float, count: int, frontal: int) -> Draws:
    key = batch.keys[0]
    mask = torch.zeros_like(batch.present)
    if count:
        dropout = ViewDropout({count: 1.0})
        mask[0] = torch.tensor(
            [choose_views(dropout, slots, frontal, ("validation", key, 0, identity))
             for identity, slots in enumerate(batch.present[0].tolist())]
        )  # fmt: skip
    generator = seeded("validation", key)
    noise = torch.randn(batch.video.shape, generator=generator)
    return Draws(mask, torch.ones(1, dtype=torch.bool), torch.tensor([level]), noise)


def _next_alike(batches: Sequence[EncodedBatch], index: int) -> EncodedBatch | None:
    shape = batches[index].references.shape
    for step in range(1, len(batches)):
        other = batches[(index + step) % len(batches)]
        if other.references.shape == shape:
            return other
    return None
