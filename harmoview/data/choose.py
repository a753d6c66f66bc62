"""Which samples a phase trains on, and which are held out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from datapipe.errors import UserError
from harmoview.curriculum import Data, uniform
from harmoview.data.encoded import EncodedShards
from harmoview.data.plan import Plan

SCORES = ("sharpness", "aesthetic", "identity_cosine")


def held_out(keys: Sequence[str], share: float, most: int) -> frozenset[int]:
    """The numbers of the samples that are kept for validation: chosen by their keys' hash.

    The same whatever the seed, so that runs can be compared; at least one of each run that asks
    for a share, and always one is left to train on.
    """
    wanted = min(most, math.ceil(len(keys) * share), len(keys) - 1)
    order = sorted(range(len(keys)), key=lambda number: uniform("held out", keys[number]))
    return frozenset(order[: max(0, wanted)])


def chosen(data: EncodedShards, which: Data, curated: float) -> list[int]:
    """The numbers of the samples that a phase's data are made of.

    single_view takes all; multi_view those whose identities have a view besides the frontal one;
    curated the best `curated` of these by their stored scores. Raises UserError where none is left.
    """
    if which == "single_view":
        return list(range(len(data.keys)))
    views = data.column("views")
    multi = [int(number) for number in np.flatnonzero(views > 1)]
    if not multi:
        raise UserError(f"{data.folder.url} has no sample with more than one view")
    return multi if which == "multi_view" else best(data, multi, curated)


def best(data: EncodedShards, numbers: Sequence[int], share: float) -> list[int]:
    """The best share of samples by the mean of their ranks in each score.

    Ranks, because the scores have no common scale; a score that was not measured ranks last.
    """
    total = np.zeros(len(numbers))
    for name in SCORES:
        values = data.column(name)[list(numbers)]
        order = np.argsort(-np.where(np.isnan(values), -np.inf, values), kind="stable")
        ranks = np.empty(len(numbers))
        ranks[order] = np.arange(len(numbers))
        total += ranks
    kept = np.argsort(total, kind="stable")[: math.ceil(len(numbers) * share)]
    return sorted(numbers[int(k)] for k in kept)


def plan_of(data: EncodedShards, numbers: Sequence[int], size: int, seed: int) -> Plan:
    """The plan of these samples."""
    columns = [data.column(name).tolist() for name in ("frames", "height", "width", "identities")]
    groups = list(zip(*columns, strict=True))
    keys = data.keys
    return Plan({n: keys[n] for n in numbers}, {n: groups[n] for n in numbers}, size, seed)
