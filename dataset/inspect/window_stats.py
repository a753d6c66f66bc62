"""The spans in which a run's people are seen: how many, how long, how far heads turn."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import duckdb

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
