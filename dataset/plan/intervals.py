"""What a sample without replacement tells about a finite population: estimates with intervals.

Every interval is meant to hold the truth with `LEVEL`, each by itself. A sample that is the whole
population gives the truth, with an interval of no width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom, t

LEVEL = 0.95
_TAIL = (1 - LEVEL) / 2
RESAMPLES = 1000
ENOUGH = 10
"""Values from which a bootstrap makes sense; Student's t has the fewer."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number of the whole population, and the interval it lies in."""

    value: float
    low: float
    high: float | None
    """None: the sample sets no bound, as nothing in it, or one thing, was of that kind."""

    def __add__(self, other: Estimate) -> Estimate:
        """A sum; the bounds are added, which is right for what rises together, else wide."""
        open_end = self.high is None or other.high is None
        high = None if open_end else (self.high or 0.0) + (other.high or 0.0)
        return Estimate(self.value + other.value, self.low + other.low, high)

    def __mul__(self, factor: float) -> Estimate:
        """By something known, not negative."""
        high = None if self.high is None else self.high * factor
        return Estimate(self.value * factor, self.low * factor, high)


ZERO = Estimate(0.0, 0.0, 0.0)


@lru_cache(maxsize=4096)
def count_of(seen: int, sample: int, population: int) -> Estimate:
    """How many of `population` have what `seen` of `sample` have.

    Clopper-Pearson for a population that is finite: the counts that the hypergeometric distribution
    does not make less likely than 2.5 % on either side (Buonaccorsi 1987).
    """
    least, most = seen, population - (sample - seen)

    def shows_so_many(count: int) -> bool:
        return float(hypergeom.sf(seen - 1, population, count, sample)) > _TAIL

    def hardly_so_few(count: int) -> bool:
        return float(hypergeom.cdf(seen, population, count, sample)) <= _TAIL

    low = _first(shows_so_many, least, most)
    high = _first(hardly_so_few, low, most + 1) - 1
    return Estimate(population * seen / sample, float(low), float(max(low, high)))


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The first integer from `low` on for which it holds, as it does for all after; or `high`."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def sum_of_counts(values: Sequence[int], population: int) -> Estimate:
    """The sum over the population of small counts, as the videos with at least 1, at least 2, …"""
    return sum(
        (
            count_of(sum(value >= level for value in values), len(values), population)
            for level in range(1, 1 + max(values, default=0))
        ),
        start=count_of(0, len(values), population) if not any(values) else ZERO,
    )


def share_of(hits: int, of: int, clusters: int, fraction: float) -> Estimate:
    """A share of things that come in clusters, two views in a video say.

    Wilson's interval, with clusters for the number of trials as if the things in one were all
    alike, and that number raised as the sampled `fraction` of the population calls for.
    """
    share = hits / of
    if fraction >= 1:
        return Estimate(share, share, share)
    z, n = NormalDist().inv_cdf(1 - _TAIL), clusters / (1 - fraction)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half))


def sum_of_amounts(amounts: Sequence[float], seen: int, sample: int, population: int) -> Estimate:
    """The sum over the population of positive amounts, which `seen` of the `sample` have.

    `amounts` are those that were measured, fewer than `seen` perhaps. The interval joins those of
    the count and of the mean (MOVER, Zou and Donner 2008, of the logarithms).
    """
    count = count_of(seen, sample, population)
    if not len(amounts):
        return Estimate(0.0, 0.0, None if seen or count.high else 0.0)
    mean = mean_of(np.asarray(amounts, float), sample / population)
    value = count.value * mean.value
    low = value * math.exp(-math.hypot(_log(count.value, count.low), _log(mean.value, mean.low)))
    low = max(low, math.fsum(amounts))
    if mean.high is None:
        return Estimate(value, low, None)
    high = math.hypot(_log(count.high or 0.0, count.value), _log(mean.high, mean.value))
    return Estimate(value, low, max(low, value * math.exp(high)))


def _log(upper: float, lower: float) -> float:
    return math.log(upper / lower) if lower > 0 else math.inf


def mean_of(values: NDArray[np.float64], fraction: float) -> Estimate:
    """The mean of a population of which `fraction` was sampled.

    The bootstrap of Student's t, which amounts with long tails need (Efron 1981); with few values
    Student's t itself. Seeded.
    """
    mean, count = float(values.mean()), len(values)
    finite = math.sqrt(max(0.0, 1 - fraction))
    if finite == 0:
        return Estimate(mean, mean, mean)
    if count == 1:
        return Estimate(mean, 0.0, None)
    error = float(values.std(ddof=1)) / math.sqrt(count)
    low, high = float(t.ppf(_TAIL, count - 1)), float(t.ppf(1 - _TAIL, count - 1))
    if count >= ENOUGH and error > 0:
        low, high = _bootstrap(values)
    return Estimate(mean, max(0.0, mean - high * finite * error), mean - low * finite * error)


def _bootstrap(values: NDArray[np.float64]) -> tuple[float, float]:
    """Quantiles of Student's t of the mean, over samples drawn from the sample."""
    generator = np.random.default_rng(len(values))
    drawn = values[generator.integers(0, len(values), (RESAMPLES, len(values)))]
    errors = drawn.std(axis=1, ddof=1) / math.sqrt(len(values))
    apart = (drawn.mean(axis=1) - values.mean())[errors > 0] / errors[errors > 0]
    low, high = np.quantile(apart, [_TAIL, 1 - _TAIL])
    return float(low), float(high)
