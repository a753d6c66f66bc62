"""Pose tolerance and sharpness floors from the measured distributions of a run's own views."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from filters.calibrate.comparisons import Floats, Ints
from filters.rules import PROFILE

SIGMAS = 3.0
"""How far from the middle a normal distribution's views still pass: all but one in 370, or in 740
where one side alone fails."""
_MAD = 1.4826
"""Sigma of a normal distribution over its median absolute deviation."""
_QUARTILE = 0.6745
"""Sigmas between the median of a normal distribution and its lower quartile."""
LEAST_VIEWS = 20
"""Under so many views at a |yaw| its bound is not looked at."""
_SMALLEST = 1e-4
"""Sharpness below which a logarithm would say more than was measured."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What one |yaw| asks of a rule."""

    yaw: int
    views: int
    median: float
    bound: float
    passing: float
    """Share of the views within the bound."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of each |yaw|; a rule takes the widest, and is None where there are none."""

    pose: tuple[Bound, ...] = ()
    """Median error outwards (at 0: to image right) and the tolerance it asks for, degrees."""
    profile: Bound | None = None
    """At 90: median |yaw| and the least that passes."""
    sharpness: tuple[Bound, ...] = ()
    ratio: tuple[Bound, ...] = ()
    aesthetic: tuple[Bound, ...] = ()

    @property
    def tolerance(self) -> float | None:
        """The widest pose tolerance, rounded up to half a degree."""
        found = [bound.bound for bound in self.pose]
        return max(1.0, math.ceil(2 * max(found)) / 2) if found else None

    @property
    def profile_minimum(self) -> float | None:
        """The least |yaw| of a profile, rounded down to half a degree."""
        return None if self.profile is None else math.floor(2 * self.profile.bound) / 2

    @property
    def least_sharpness(self) -> float | None:
        """The lowest floor of all yaws."""
        return _lowest(self.sharpness)

    @property
    def least_ratio(self) -> float | None:
        """The lowest floor of all yaws."""
        return _lowest(self.ratio)

    @property
    def least_aesthetic(self) -> float | None:
        """The lowest floor of all yaws."""
        return _lowest(self.aesthetic)


def bounds(yaw: Ints, scores: Mapping[str, Floats]) -> Bounds:
    """The bounds that views of a yaw asked for [V] hold to by their scores [V].

    `scores` has the columns `measured_yaw`, `sharpness`, `sharpness_ratio` and `aesthetic` of the
    views table, NaN where a score could not be measured.
    """
    angle, side = np.abs(yaw), np.where(yaw < 0, -1, 1)
    outwards = scores["measured_yaw"] * side
    pose: list[Bound] = []
    sharp: list[Bound] = []
    ratio: list[Bound] = []
    beauty: list[Bound] = []
    profile = None
    for at in map(int, np.unique(angle)):
        here = angle == at
        read = _known(outwards[here])
        if len(read) >= LEAST_VIEWS:
            if at < PROFILE:
                pose.append(_around(at, read - at))
            else:
                profile = _least(at, read, spread=_spread(read))
        for name, into in (("sharpness", sharp), ("sharpness_ratio", ratio)):
            values = _known(scores[name][here])
            if len(values) >= LEAST_VIEWS:
                into.append(_least_of_ratio(at, values))
        values = _known(scores["aesthetic"][here])
        if len(values) >= LEAST_VIEWS:  # on a scale that may well go below 0
            beauty.append(_least(at, values, spread=_lower_spread(values)))
    return Bounds(tuple(pose), profile, tuple(sharp), tuple(ratio), tuple(beauty))


def _around(yaw: int, errors: Floats) -> Bound:
    """Around zero, as the rule is: a bias costs tolerance. Up to half the views may be wrong."""
    middle = float(np.median(errors))
    bound = abs(middle) + SIGMAS * _spread(errors)
    return Bound(yaw, len(errors), middle, bound, float(np.mean(np.abs(errors) <= bound)))


def _least(yaw: int, values: Floats, spread: float) -> Bound:
    middle = float(np.median(values))
    bound = middle - SIGMAS * spread
    return Bound(yaw, len(values), middle, bound, float(np.mean(values >= bound)))


def _least_of_ratio(yaw: int, values: Floats) -> Bound:
    """On a logarithmic scale, by the lower half alone: the upper one is longer."""
    logs = np.log(np.maximum(values, _SMALLEST))
    found = _least(yaw, logs, _lower_spread(logs))
    return Bound(yaw, len(values), math.exp(found.median), math.exp(found.bound), found.passing)


def _spread(values: Floats) -> float:
    return _MAD * float(np.median(np.abs(values - np.median(values))))


def _lower_spread(values: Floats) -> float:
    lower, middle = np.quantile(values, [0.25, 0.5])
    return float(middle - lower) / _QUARTILE


def _known(values: Floats) -> Floats:
    return values[np.isfinite(values)]


def _lowest(found: tuple[Bound, ...]) -> float | None:
    return math.floor(100 * min(bound.bound for bound in found)) / 100 if found else None
