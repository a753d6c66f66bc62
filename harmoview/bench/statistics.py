"""Intervals by resampling cases: seeded, and the same for any order of the methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RESAMPLES = 10_000
TAIL = 0.025
"""Share of the resamples beyond either end of an interval."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Where 95 % of the resamples lie."""

    low: float
    high: float


def case_weights(cases: int, seed: int, resamples: int = RESAMPLES) -> Floats:
    """(resamples, cases): how often each case is drawn, with replacement."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.multinomial(cases, np.full(cases, 1 / cases), resamples), float)


def identity_weights(
    people: Sequence[Sequence[str]], seed: int, resamples: int = RESAMPLES
) -> Floats:
    """(resamples, cases): identities are drawn instead; `people` are those of each case.

    Cases that share a person are not independent. A case counts as often as its people were drawn,
    one of two people as often as they were on average.
    """
    names = sorted({name for some in people for name in some})
    drawn = case_weights(len(names), seed, resamples)
    member = np.zeros((len(names), len(people)))
    for place, some in enumerate(people):
        for name in some:
            member[names.index(name), place] = 1 / len(some)
    return np.asarray(drawn @ member)


def interval(samples: npt.ArrayLike) -> Interval | None:
    """Percentiles; None where most resamples have no value.

    Both ends are order statistics of the same depth, so that negated samples give the negated
    interval exactly.
    """
    values = np.asarray(samples, float)
    kept = np.sort(values[~np.isnan(values)])
    if len(kept) < len(values) / 2 or not len(kept):
        return None
    depth = int(TAIL * (len(kept) - 1))
    return Interval(float(kept[depth]), float(kept[len(kept) - 1 - depth]))
