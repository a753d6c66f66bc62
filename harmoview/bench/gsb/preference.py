"""What votes say of two methods: shares, intervals, tests; and strengths of several methods."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

Floats = npt.NDArray[np.float64]

LEVEL = 0.95
POINTS = {"G": 1.0, "S": 0.5, "B": 0.0}
"""A win, a tie and a loss as Bradley and Terry's model and the win rate count them."""


@dataclass(frozen=True, slots=True)
class Preference:
    """One method against one opponent, by the majority of each case."""

    good: int
    same: int
    bad: int
    net: float | None
    """(G - B) / n, -1..1."""
    win_rate: float | None
    """(G + S / 2) / n, 0..1."""
    odds: float | None
    """(G + S) / (B + S), the convention of some papers; None where nobody said B or S."""
    decided: tuple[float, float] | None
    """Wilson's interval of G / (G + B); None where all is S."""
    p: float
    """Of the exact two-sided sign test of G against B."""

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def preference(majority: Sequence[str | None]) -> Preference:
    """Counts, shares and the sign test of one opponent's cases; None is a case without votes."""
    good, same, bad = (sum(vote == grade for vote in majority) for grade in "GSB")
    n, decided = good + same + bad, good + bad
    return Preference(
        good=good,
        same=same,
        bad=bad,
        net=(good - bad) / n if n else None,
        win_rate=(good + same / 2) / n if n else None,
        odds=(good + same) / (bad + same) if bad + same else None,
        decided=wilson(good, decided) if decided else None,
        p=sign_test(good, bad),
    )


def wilson(hits: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    found = binomtest(hits, of).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)


def sign_test(good: int, bad: int) -> float:
    """The exact two-sided p of a fair coin; 1 without any decision."""
    return float(binomtest(good, good + bad).pvalue) if good + bad else 1.0


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """P values adjusted for asking several times (Holm 1979)."""
    adjusted, least = {}, 0.0
    for rank, name in enumerate(sorted(p, key=lambda one: (p[one], one))):
        least = max(least, min(1.0, (len(p) - rank) * p[name]))
        adjusted[name] = least
    return {name: adjusted[name] for name in p}


def power(n: int) -> tuple[int, float, float]:
    """The fewest wins of n cases without ties that the sign test calls significant at .05.

    Its p, and that of one win fewer. With too few cases no number is enough: n + 1 wins, p 1.
    """
    for wins in range((n + 1) // 2, n + 1):
        if sign_test(wins, n - wins) < 1 - LEVEL:
            return wins, sign_test(wins, n - wins), sign_test(wins - 1, n - wins + 1)
    return n + 1, 1.0, sign_test(n, 0)


def bradley_terry(wins: Floats, tolerance: float = 1e-12, rounds: int = 100_000) -> Floats:
    """Strengths with mean logarithm 0, from a matrix of wins (row over column; ties ½ to both).

    Where some methods won everything against the others, no strengths fit best; then half a win is
    added on both sides of every pair that met. By Hunter's (2004) minorisation.
    """
    met = wins + wins.T
    smoothed = wins + (0.5 * (met > 0) if _separable(wins) else 0.0)
    met = smoothed + smoothed.T
    won = smoothed.sum(axis=1)
    strength = np.ones(len(wins))
    for _ in range(rounds):
        pairs = met / (strength[:, None] + strength[None, :])
        new = won / pairs.sum(axis=1)
        new /= np.exp(np.log(new).mean())
        if np.abs(new - strength).max() < tolerance:
            return np.asarray(new)
        strength = new
    return np.asarray(strength)


def _separable(wins: Floats) -> bool:
    """Whether no strengths fit best: some methods were never beaten by the others."""
    from scipy.sparse.csgraph import connected_components

    parts, _ = connected_components(wins > 0, directed=True, connection="strong")
    return int(parts) > 1


def elo(strength: Floats) -> Floats:
    """Strengths on Elo's scale, 400 points a factor of ten."""
    return np.asarray(400 / math.log(10) * np.log(strength))
