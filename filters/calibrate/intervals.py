"""Shares with 95 % confidence intervals where the unit that was drawn is a person, not a pair."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
CONFIDENCE = 0.95
LEAST_PEOPLE = 20
"""Under so many people the jackknife's variance is itself a guess."""


@dataclass(frozen=True, slots=True)
class Share:
    """An estimated share and its confidence interval, 0..1."""

    value: float
    low: float
    high: float


def share(hits: ArrayLike, count: ArrayLike) -> Share:
    """The share of all comparisons that hit, from the hits and the comparisons [G] of each person.

    Every comparison counts with the one person it belongs to.
    """
    hits, count = np.asarray(hits, float), np.asarray(count, float)
    return _jackknifed(hits.sum(), count.sum(), hits, count)


def crossed_share(hits: ArrayLike, count: ArrayLike) -> Share:
    """The same where every comparison counts with each of the two people that it compares."""
    hits, count = np.asarray(hits, float), np.asarray(count, float)
    return _jackknifed(hits.sum() / 2, count.sum() / 2, hits, count)


def _jackknifed(hits: float, count: float, own_hits: Floats, own_count: Floats) -> Share:
    left = count - own_count
    without = (hits - own_hits)[left > 0] / left[left > 0]
    return interval(float(hits / count), without)


def interval(value: float, without: Floats) -> Share:
    """The interval of a share from its values without each person in turn (delete-one jackknife).

    Korn and Graubard (Survey Methodology 24, 1998): Clopper-Pearson's interval of as many
    independent trials as have the jackknife's variance, corrected for its degrees of freedom. A
    share that no person changes (0 or 1) is worth one trial a person.
    """
    people = len(without)
    if people < 2:
        return Share(value, 0.0, 1.0)
    variance = (people - 1) / people * float(np.square(without - np.mean(without)).sum())
    trials = value * (1 - value) / variance if variance > 1e-15 else float(people)
    tail = (1 - CONFIDENCE) / 2
    trials *= (stats.norm.ppf(tail) / stats.t.ppf(tail, people - 1)) ** 2
    hits = value * trials
    low = float(stats.beta.ppf(tail, hits, trials - hits + 1)) if hits > 0 else 0.0
    high = float(stats.beta.ppf(1 - tail, hits + 1, trials - hits)) if hits < trials else 1.0
    return Share(value, min(low, value), max(high, value))


def people_needed(far: float) -> int:
    """The fewest people whose comparisons can tell a false-accept rate.

    Rule of three: had none of 3 / far independent comparisons been accepted, the rate would be
    under `far` with 95 % confidence. n people have n (n - 1) comparisons, at best independent.
    """
    return max(LEAST_PEOPLE, math.ceil((1 + math.sqrt(1 + 12 / far)) / 2))
