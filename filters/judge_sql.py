"""The judge for whole tables: the decisions of `filters.judge` as SQL, for duckdb to run.

`filters.judge` is the definition and has the sentences; this gives the same reason codes for
millions of rows a second. A test holds the two together on every kind of row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Self, get_args

import duckdb
import numpy as np
import pyarrow as pa

from filters.judge import Limits, ViewReason, limits_at
from filters.rules import Rules

_VIEW = {name: code for code, name in enumerate(get_args(ViewReason), 1)}
"""Less than 8, so that a verdict and a yaw share two bytes."""
_REFERENCE = {name: f"'reference_{name}'" for name in _VIEW}


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What the rules say about a batch."""

    identities: Any
    """For each row of `references`, why the identity is left out; a string, null if it is kept."""
    views: Any
    """For each row of `views`, the first rule that it fails; a string, null if it passes."""
    kept: Any
    """For each row of `views`, whether it passes and its identity is kept."""


class TableJudge:
    """The rules of a run, made ready for its tables."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._limits = {yaw: limits_at(yaw, rules) for yaw in rules.yaws}
        self._bits = _bits(self._limits)

    def __call__(self, references: pa.Table, views: pa.Table) -> Verdicts:
        """Judge whole identities.

        Raises ValueError for a view at a yaw that the rules are not for, and for one whose
        identity has no reference.
        """
        with duckdb.connect() as connection:
            for name, table in (("refs", references), ("views", views)):
                place = pa.array(np.arange(len(table)))
                connection.register(name, table.append_column("place", place))
            try:
                self.judge(connection)
                own = connection.sql(
                    "SELECT reason FROM refs JOIN identities USING (key, identity) ORDER BY place"
                ).to_arrow_table()
                found = connection.sql(
                    "SELECT reason, kept FROM views JOIN judged USING (key, identity, yaw) "
                    "ORDER BY place"
                ).to_arrow_table()
            except duckdb.InvalidInputException as wrong:
                raise ValueError(str(wrong)) from wrong
        if len(found) < len(views):
            raise ValueError("a view belongs to an identity that has no reference")
        return Verdicts(*(column.combine_chunks() for column in (*own.columns, *found.columns)))

    def judge(self, connection: duckdb.DuckDBPyConnection) -> None:
        """See `dataset.judged.Decide`.

        The views are read once: their verdicts travel with their identity, two bytes each.
        """
        connection.execute(f"CREATE TEMP TABLE limits AS {self._limits_table()}")
        connection.execute(f"CREATE TEMP VIEW alone AS {self._alone()}")
        connection.execute(f"CREATE TEMP TABLE identities AS {self._identities()}")
        connection.execute(f"CREATE TEMP VIEW judged AS {self._judged()}")

    def _limits_table(self) -> str:
        """The rules at each yaw. Its bit is what a view's identity `lends`, and others' `needs`."""
        rows = [
            f"({yaw}, {_sql(at.low)}, {_sql(at.high)}, {at.level}, {_sql(at.cosine)}, "
            f"{self._bits.get(yaw, 0)}, {self._needs(yaw)})"
            for yaw, at in self._limits.items()
        ]
        columns = "yaw, low, high, level, cosine, lends, needs"
        return f"FROM (VALUES {', '.join(rows)}) AS rows({columns})"

    def _needs(self, yaw: int) -> int:
        """The bits of all the nearer views that identity at this yaw rests on."""
        nearer = self._limits[yaw].rests_on
        return 0 if nearer is None else self._bits[nearer] | self._needs(nearer)

    def _alone(self) -> str:
        """The views with what their own scores say: `fault`, and `own`, the test of identity."""
        rules = self.rules
        level = (
            f"{_between('measured_pitch', -rules.pose.pitch, rules.pose.pitch)} AND "
            f"{_between('measured_roll', -rules.pose.roll, rules.pose.roll)}"
        )
        return f"""
            SELECT key, identity, views.yaw, lends, needs,
                cosine IS NULL OR {_reaches("identity_cosine", "cosine")} AS own,
                CASE WHEN lends IS NULL THEN error('a view at another yaw (' || views.yaw ||
                        ') than {rules.yaws}, which the rules are for')
                    {self._quality(rules.sharpness.ratio, rules.aesthetic.minimum, _VIEW)}
                    WHEN NOT ({_between("measured_yaw", "low", "high")}
                        AND (NOT level OR {level})) THEN {_VIEW["pose"]}
                    WHEN NOT own THEN {_VIEW["identity"]} ELSE 0 END AS fault
            FROM views LEFT JOIN limits ON views.yaw = limits.yaw"""

    def _identities(self) -> str:
        """Views pass for certain once it is known what the identity's nearer views lend."""
        needed = sorted({self._needs(yaw) for yaw in self._limits})
        counts = [f"count(*) FILTER (fault = 0 AND needs = {n}) AS fit{n}" for n in needed]
        passing = " + ".join(f"CASE WHEN lent & {n} = {n} THEN fit{n} ELSE 0 END" for n in needed)
        reference = ""
        if self.rules.reference_must_pass:
            reference = self._quality(None, self.rules.aesthetic.reference, _REFERENCE)
        return f"""
            SELECT key, identity, views, len(views) AS made, lent, CASE {reference}
                WHEN views IS NULL OR {passing} < {self.rules.minimum_views}
                THEN 'too_few_views' END AS reason
            FROM refs LEFT JOIN (
                SELECT key, identity, list(((yaw + 90) * 8 + fault)::SMALLINT) AS views,
                    bit_or(CASE WHEN own THEN lends ELSE 0 END) AS lent, {", ".join(counts)}
                FROM alone GROUP BY key, identity) USING (key, identity)"""

    def compare(self, connection: duckdb.DuckDBPyConnection, other: Self) -> None:
        """See `dataset.judged.Decide`."""
        self.judge(connection)
        connection.execute("DROP VIEW judged; DROP VIEW alone")
        for table in ("identities", "limits"):
            connection.execute(f"ALTER TABLE {table} RENAME TO own_{table}")
        other.judge(connection)
        connection.execute(
            """CREATE TEMP TABLE both_identities AS
            SELECT key, identity, own.reason AS a, other.reason AS b, own.lent AS lent_a,
                other.lent AS lent_b, own.views AS views_a, other.views AS views_b
            FROM own_identities AS own JOIN identities AS other USING (key, identity)"""
        )
        connection.execute("DROP TABLE own_identities")
        connection.execute(f"CREATE TEMP VIEW both_views AS {_BOTH}")

    def _judged(self) -> str:
        return f"""
            SELECT key, identity, yaw, {_reason("fault")} AS reason,
                fault = 0 AND left_out IS NULL AS kept
            FROM (SELECT key, identity, yaw, left_out, {_settled("view", "lent", "needs")} AS fault
                FROM (SELECT key, identity, lent, reason AS left_out, unnest(views) AS view
                    FROM identities)
                JOIN limits ON view // 8 - 90 = yaw)"""

    def _quality(self, ratio: float | None, beauty: float, codes: Mapping[str, Any]) -> str:
        """When a picture fails, and how, the first rule first."""
        sharp = _reaches("sharpness", self.rules.sharpness.minimum)
        if ratio is not None:
            sharp += f" AND {_reaches('sharpness_ratio', ratio)}"
        return f"""
            WHEN NOT detected THEN {codes["not_detected"]}
            WHEN NOT ({sharp}) THEN {codes["blurred"]}
            WHEN NOT {_reaches("aesthetic", beauty)} THEN {codes["aesthetic"]}"""


def _settled(view: str, lent: str, needs: str) -> str:
    """What a view fails at last: on its own, or for what its identity's nearer views lend."""
    return f"""CASE WHEN {view} % 8 = 0 AND {lent} & {needs} <> {needs}
        THEN {_VIEW["identity_neighbours"]} ELSE {view} % 8 END"""


def _reason(fault: str) -> str:
    """Its name, null for 0: duckdb counts from 1."""
    return f"{list(_VIEW)}[{fault}]"


_BOTH = f"""
    SELECT key, identity, yaw, {_reason("fault_a")} AS a, {_reason("fault_b")} AS b,
        fault_a = 0 AND left_a IS NULL AS kept_a, fault_b = 0 AND left_b IS NULL AS kept_b
    FROM (SELECT key, identity, own.yaw, left_a, left_b,
            {_settled("view_a", "lent_a", "own.needs")} AS fault_a,
            {_settled("view_b", "lent_b", "other.needs")} AS fault_b
        FROM (SELECT key, identity, a AS left_a, b AS left_b, lent_a, lent_b,
                unnest(list_sort(views_a)) AS view_a, unnest(list_sort(views_b)) AS view_b
            FROM both_identities)
        JOIN own_limits AS own ON view_a // 8 - 90 = own.yaw
        JOIN limits AS other ON other.yaw = own.yaw)"""
"""Sorted, both lists of an identity have its yaws in the same order."""


def _bits(limits: Mapping[int, Limits]) -> dict[int, int]:
    """A bit for each yaw that another rests on: four at most, two reaches on two sides."""
    nearer = sorted({at.rests_on for at in limits.values() if at.rests_on is not None})
    return {yaw: 1 << index for index, yaw in enumerate(nearer)}


def _reaches(score: str, least: float | str) -> str:
    return _between(score, least, inf)


def _between(score: str, least: float | str, most: float | str) -> str:
    """False for what is null, and for NaN, which duckdb takes for more than infinity."""
    return f"coalesce({score} BETWEEN {_sql(least)} AND {_sql(most)}, false)"


def _sql(value: float | str | None) -> str:
    """A number to the last digit, or the name of a column."""
    if value is None:
        return "NULL::DOUBLE"
    return value if isinstance(value, str) else f"'{float(value)!r}'::DOUBLE"
