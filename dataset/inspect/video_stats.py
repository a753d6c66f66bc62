"""What a run's videos show by themselves: the windows in which people are seen, and real views.

How many spans there are, how long they are and how far heads turn; how many people turn how far,
and how near the engine comes to them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import duckdb
from scipy.stats import norm, t

SPANS = (0, 10, 20, 40, 80)
"""Where the bins of yaw spans begin, degrees."""
LENGTHS = (0, 1, 2, 5, 10, 30)
"""Where the bins of lengths begin, seconds."""


@dataclass
class WindowStats:
    """Windows of all identities of candidates; what passes is by the rules for windows alone."""

    windows: int = 0
    passed: int = 0
    seconds: float = 0.0
    """Of all that pass, together."""
    identities: int = 0
    """Identities that are kept and have a window that passes."""
    without: int = 0
    """Identities that are kept and have none: `encode` leaves them out."""
    together: int = 0
    """Windows that pass in which another identity of the sample is seen half the time or more."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Of those that fail, the first rule that each fails."""
    lengths: dict[int, int] = field(default_factory=dict)
    """Windows that pass, by the bin of `LENGTHS` that they are in."""
    spans: dict[int, int] = field(default_factory=dict)
    """The same by the bin of `SPANS` of their measured yaw."""

    def as_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {**vars(self), "reasons": dict(self.reasons.most_common())}


def window_stats(connection: duckdb.DuckDBPyConnection) -> WindowStats:
    """Count; takes a connection of `dataset.judged.judged_run`."""
    found = WindowStats()
    judged = "FROM judged_windows SEMI JOIN candidates USING (key)"
    for reason, count, seconds, both in connection.execute(
        f"SELECT reason, count(*), sum(seconds), count(*) FILTER (together >= 0.5) {judged} "
        "GROUP BY ALL"
    ).fetchall():
        found.windows += count
        if reason is None:
            found.passed, found.seconds, found.together = count, round(seconds, 3), both
        else:
            found.reasons[reason] = count
    (found.identities, kept) = connection.execute(
        """SELECT count(*) FILTER (passing), count(*) FROM (
            SELECT key, identity, bool_or(judged_windows.start IS NOT NULL) AS passing
            FROM (FROM identities WHERE reason IS NULL) AS kept
            LEFT JOIN (FROM judged_windows WHERE reason IS NULL) AS judged_windows
            USING (key, identity) GROUP BY ALL)"""
    ).fetchone() or (0, 0)
    found.without = kept - found.identities
    found.lengths = _bins(connection, judged, "seconds", LENGTHS)
    found.spans = _bins(connection, judged, "yaw_span", SPANS)
    return found


def _bins(
    connection: duckdb.DuckDBPyConnection, judged: str, column: str, starts: tuple[int, ...]
) -> dict[int, int]:
    """How many windows that pass are in each bin."""
    bins = ", ".join(
        f"count(*) FILTER ({column} >= {low} AND {column} < {high})"
        for low, high in zip(starts, (*starts[1:], "'infinity'::DOUBLE"), strict=True)
    )
    counts = connection.execute(f"SELECT {bins} {judged} WHERE reason IS NULL").fetchone() or ()
    return dict(zip(starts, counts, strict=True))


LEVEL = 0.95
_TAIL = (1 + LEVEL) / 2


@dataclass(frozen=True)
class RealCoverage:
    """The identities at one yaw; all of candidates, whatever the rules say."""

    yaw: int
    identities: int
    real: int
    """Of them, those that the video shows so."""
    low: float
    """Wilson's interval of the share, 95 %."""
    high: float
    kept: int
    """Views that are kept and real."""

    @property
    def share(self) -> float:
        return self.real / self.identities


@dataclass(frozen=True)
class MeanOf:
    """A mean and its interval, 95 % by Student's t; no interval of a single value.

    What no such mean can be is cut off the interval, which covers the true mean as often as before.
    """

    count: int
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class EngineYaw:
    """Synthesised views against real ones of the same people at the same yaw."""

    yaw: int
    pairs: int
    cosine: MeanOf | None
    """Between the faces of the two; None where none could be measured, here and below."""
    turn: MeanOf | None
    """Degrees between their measured yaws."""
    sharpness: MeanOf | None
    """Of the synthesised view over that of the real one."""


@dataclass(frozen=True)
class RealStats:
    """What a run's real views tell."""

    mode: str
    """The run's `--real-views`."""
    coverage: list[RealCoverage] = field(default_factory=list)
    """By rising yaw; not 0, where the reference is a real view."""
    engine: list[EngineYaw] = field(default_factory=list)
    """By rising yaw, where both sources are there."""
    synthesised: int = 0
    """Views that the engine made."""

    @property
    def spared(self) -> float:
        """The share of the engine's views that `--real-views instead` does without.

        In a run with `keep` the most that it can be: the rules refuse some real views.
        """
        both = sum(one.pairs for one in self.engine)
        if self.mode == "instead":
            alone = sum(one.real for one in self.coverage) - both
            return alone / max(1, alone + self.synthesised)
        return both / max(1, self.synthesised)

    def as_dict(self) -> dict[str, Any]:
        """JSON types; `docs/stats.md` describes them."""
        coverage = [{**asdict(one), "share": one.share} for one in self.coverage]
        return {**asdict(self), "coverage": coverage, "spared": self.spared}


def real_stats(
    connection: duckdb.DuckDBPyConnection, settings: Mapping[str, Any]
) -> RealStats | None:
    """Count; takes a connection of `dataset.judged.judged_run` and a run's settings.

    None where no real views were looked for.
    """
    mode = str(settings.get("real_views", "off"))
    if mode == "off":
        return None
    (identities,) = connection.execute("SELECT count(*) FROM identities").fetchone() or (0,)
    own = "(FROM views SEMI JOIN candidates USING (key) WHERE source = 'real' AND yaw <> 0)"
    found = dict(connection.execute(f"SELECT yaw, count(*) FROM {own} GROUP BY yaw").fetchall())
    query = (
        "SELECT yaw, count(*) FROM (FROM shown WHERE source = 'real') "
        "JOIN (FROM judged WHERE kept) USING (key, identity, yaw) GROUP BY yaw"
    )
    kept = dict(connection.execute(query).fetchall())
    (made,) = connection.execute(
        "SELECT count(*) FROM views SEMI JOIN candidates USING (key) WHERE source = 'synthesised'"
    ).fetchone() or (0,)
    coverage = [
        RealCoverage(
            yaw, identities, found.get(yaw, 0), *_wilson(found.get(yaw, 0), identities),
            kept.get(yaw, 0),
        )
        for yaw in sorted(settings["yaws"])
        if yaw and identities
    ]  # fmt: skip
    return RealStats(mode, coverage, _engine(connection), made)


_PAIRS = """
SELECT yaw, made.twin_cosine AS cosine, abs(made.measured_yaw - own.measured_yaw) AS turn,
    made.sharpness / nullif(own.sharpness, 0) AS sharpness
FROM (FROM views WHERE twin AND source = 'synthesised') AS made
JOIN (FROM views SEMI JOIN candidates USING (key) WHERE twin AND source = 'real') AS own
USING (key, identity, yaw)
"""


def _engine(connection: duckdb.DuckDBPyConnection) -> list[EngineYaw]:
    wanted = ", ".join(
        f"count({name}), avg({name}), stddev_samp({name})"
        for name in ("cosine", "turn", "sharpness")
    )
    rows = connection.execute(
        f"SELECT yaw, count(*), {wanted} FROM ({_PAIRS}) GROUP BY yaw ORDER BY yaw"
    ).fetchall()
    return [
        EngineYaw(
            yaw,
            pairs,
            cosine=_mean(row[:3], least=-1.0, most=1.0),
            turn=_mean(row[3:6], least=0.0, most=180.0),
            sharpness=_mean(row[6:], least=0.0),
        )
        for yaw, pairs, *row in rows
    ]


def _mean(found: Sequence[Any], least: float, most: float = math.inf) -> MeanOf | None:
    """Of count, mean and deviation; the mean lies in `least`..`most` whatever was measured."""
    count, mean, deviation = found
    if mean is None:
        return None
    if count < 2 or deviation is None:
        return MeanOf(count, mean, None, None)
    half = float(t.ppf(_TAIL, count - 1)) * deviation / math.sqrt(count)
    return MeanOf(count, mean, max(least, mean - half), min(most, mean + half))


def _wilson(hits: int, of: int) -> tuple[float, float]:
    z = float(norm.ppf(_TAIL))
    share, extra = hits / of, z * z / of
    half = z * math.sqrt(share * (1 - share) / of + extra / (4 * of))
    low, high = ((share + extra / 2 + side * half) / (1 + extra) for side in (-1, 1))
    return max(0.0, low), min(1.0, high)
