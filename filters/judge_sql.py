"""The judge for whole tables: the checks of `filters.checks` as SQL, for duckdb to run.

It gives the reasons that `filters.judge` gives, for millions of rows a second and without the
sentences. A test holds the two together on every kind of row.
"""

from __future__ import annotations

from typing import Self

import duckdb

from filters.checks import VIEW_REASONS, compile_rules, reference_reason
from filters.rules import PROFILE, Rules

_FAULTS: dict[str, int] = {reason: code for code, reason in enumerate(VIEW_REASONS, 1)}
"""A passing view has the fault 0."""
RANK = "md5_number_lower(concat(key, ' ', identity))"
"""A number for each identity, spread evenly over 64 bits and the same on every machine."""
_BASE = 1 + len(_FAULTS)
"""A yaw and a fault share two bytes: (yaw + 90) * _BASE + fault."""


class TableJudge:
    """The rules of a run, made ready for its tables."""

    def __init__(self, rules: Rules) -> None:
        self.checks = compile_rules(rules)
        views = self.checks.views.values()
        tests = {(check.reason, check.column) for view in views for check in view.own}
        self._tests = sorted(tests, key=lambda test: (_FAULTS[test[0]], test[1]))
        """What is tested at one yaw or another: reasons in their order, and scores."""
        self._lent = {check.column for view in views for check in view.nearer}
        """The scores of nearer views that others rest on."""
        nearer = sorted({check.yaw for view in views for check in view.nearer})
        self._bits = {yaw: 1 << index for index, yaw in enumerate(nearer)}
        """A bit for each of these views: four at most, two reaches on two sides."""

    def judge(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make of the tables `refs` and `views` a table `identities`, and views `shown`, `judged`.

        `shown` has the rows of `views` that count: where a yaw has a real view and a synthesised
        one, the one that the rules choose.

        `identities` has key, identity, the number of its views as `made`, whether two of them are
        at one yaw as `twice`, and as `reason` why it is left out; `judged` has key, identity, its
        `RANK` as `rank`, yaw, as `reason` the first check that the view fails, and as `kept`
        whether it passes and its identity is kept. No reason is null. The views are read once:
        their verdicts travel with their identity, two bytes each.

        Raises duckdb.InvalidInputException for a view at a yaw that the rules are not for.
        """
        connection.execute(f"CREATE TEMP TABLE limits AS {self._limits()}")
        connection.execute(f"CREATE OR REPLACE TEMP VIEW shown AS {self._shown()}")
        connection.execute(f"CREATE TEMP VIEW alone AS {self._alone()}")
        connection.execute(f"CREATE TEMP TABLE identities AS {self._identities()}")
        connection.execute(f"CREATE TEMP VIEW judged AS {_JUDGED}")

    def judge_windows(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make of the table `windows` a view `judged_windows`.

        It has its columns, the length as `seconds`, `yaw_span`, and as `reason` the first check
        that the window fails, null where it passes.
        """
        connection.execute(
            f"CREATE TEMP VIEW judged_windows AS SELECT *, {self._window()} AS reason {_WINDOWS}"
        )

    def compare_windows(self, connection: duckdb.DuckDBPyConnection, other: Self) -> None:
        """Make of the table `windows` a view `both_windows`: key, identity, and as `a` and `b` the
        first check of these rules and of others that the window fails."""
        connection.execute(
            f"""CREATE TEMP VIEW both_windows AS
            SELECT key, identity, {self._window()} AS a, {other._window()} AS b {_WINDOWS}"""
        )

    def _window(self) -> str:
        """The reason of a window, null where it passes."""
        failing = " ".join(
            f"WHEN NOT {_passes(check.column, *map(_number, check.bounds))} THEN '{check.reason}'"
            for check in self.checks.windows
        )
        return f"CASE {failing} END"

    def compare(self, connection: duckdb.DuckDBPyConnection, other: Self) -> None:
        """Judge by these rules, A, and by others, B; leaves what B's `judge` does and three more.

        `both_identities` has key, identity, and as `a` and `b` the reasons by each; `both_views`
        has key, identity, yaw, `a`, `b`, and as `kept_a` and `kept_b` what `judged` has as `kept`.
        `own_source` has for yaws with two views the source of the one that A shows.
        """
        self.judge(connection)
        connection.execute(
            "CREATE TEMP TABLE own_source AS "
            "SELECT key, identity, yaw, source FROM shown WHERE twin"
        )
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

    def _limits(self) -> str:
        """A row for each yaw: the bounds of every test, null where there is none; what a view there
        `lends`, its bit; and the bits it `needs`, of all the nearer views that it rests on."""
        rows = []
        for yaw, view in self.checks.views.items():
            found = {(check.reason, check.column): check.bounds for check in view.own}
            bounds = [bound for test in self._tests for bound in found.get(test, (None, None))]
            cells = map(_number, (yaw, self._bits.get(yaw, 0), self._needs(yaw), *bounds))
            rows.append(f"({', '.join(cells)})")
        names = (f"low{index}, high{index}" for index in range(len(self._tests)))
        columns = f"yaw, lends, needs, {', '.join(names)}"
        return f"FROM (VALUES {', '.join(rows)}) AS rows({columns})"

    def _needs(self, yaw: int) -> int:
        return sum(self._bits[check.yaw] for check in self.checks.views[yaw].nearer)

    def _shown(self) -> str:
        if not self.checks.prefer_real:
            return "SELECT * FROM views WHERE twin IS NOT TRUE OR source = 'synthesised'"
        cases = []
        for yaw, view in self.checks.views.items():
            tests = (
                _passes(check.column, *map(_number, check.bounds))
                for check in (*self.checks.real[yaw], *view.own)
            )
            cases.append(f"WHEN {yaw} THEN {' AND '.join(tests)}")
        good = (
            "SELECT key, identity, yaw, true AS good FROM views WHERE twin AND source = 'real' "
            f"AND CASE yaw {' '.join(cases)} END"
        )
        return f"""SELECT views.* FROM views LEFT JOIN ({good}) USING (key, identity, yaw)
            WHERE twin IS NOT TRUE OR (source = 'real') = (good IS TRUE)"""

    def _alone(self) -> str:
        """The views with what their own scores say: their `fault`, and the bit that they lend."""
        passes = {
            test: _passes(test[1], f"low{index}", f"high{index}")
            for index, test in enumerate(self._tests)
        }
        lends = " AND ".join(passes[test] for test in self._tests if test[1] in self._lent)
        faults = (f"WHEN NOT {passes[test]} THEN {_FAULTS[test[0]]}" for test in self._tests)
        return f"""
            SELECT key, identity, shown.yaw, needs,
                CASE WHEN {lends or "false"} THEN lends ELSE 0 END AS lends,
                CASE WHEN needs IS NULL THEN error('a view at another yaw (' || shown.yaw ||
                        ') than {(*self.checks.views,)}, which the rules are for')
                    {" ".join(faults)} ELSE 0 END AS fault
            FROM shown LEFT JOIN limits ON shown.yaw = limits.yaw"""

    def _identities(self) -> str:
        """Views pass for certain once it is known what the identity's nearer views lend."""
        needed = sorted({self._needs(yaw) for yaw in self.checks.views})
        counts = [f"count(*) FILTER (fault = 0 AND needs = {n}) AS fit{n}" for n in needed]
        passing = " + ".join(f"CASE WHEN lent & {n} = {n} THEN fit{n} ELSE 0 END" for n in needed)
        failing = [
            f"WHEN NOT {_passes(check.column, *map(_number, check.bounds))} "
            f"THEN '{reference_reason(check.reason)}'"
            for check in self.checks.reference
        ]
        reference = " ".join(failing) if self.checks.reference_must_pass else ""
        return f"""
            SELECT key, identity, views, len(views) AS made, yaws < made AS twice, lent,
                CASE {reference}
                WHEN views IS NULL OR {passing} < {self.checks.minimum_views}
                THEN 'too_few_views' END AS reason
            FROM refs LEFT JOIN (
                SELECT key, identity, list(((yaw + 90) * {_BASE} + fault)::SMALLINT) AS views,
                    bit_count(bitstring_agg(yaw, -{PROFILE}, {PROFILE})) AS yaws,
                    bit_or(lends) AS lent, {", ".join(counts)}
                FROM alone GROUP BY key, identity) USING (key, identity)"""


def _settled(view: str, lent: str, needs: str) -> str:
    """What a view fails at last: on its own, or for what its identity's nearer views lend."""
    return f"""CASE WHEN {view} % {_BASE} = 0 AND {lent} & {needs} <> {needs}
        THEN {_FAULTS["identity_neighbours"]} ELSE {view} % {_BASE} END"""


def _reason(fault: str) -> str:
    """Its name, null for 0: duckdb counts from 1."""
    return f"{list(_FAULTS)}[{fault}]"


def _passes(score: str, low: str, high: str) -> str:
    """False for a score that is null, and for NaN, which duckdb takes for more than infinity.

    True where the bounds are null: nothing is asked.
    """
    return f"coalesce({score}::DOUBLE BETWEEN {low} AND {high}, {low} IS NULL)"


def _number(value: float | None) -> str:
    """To the last digit."""
    if value is None:
        return "NULL::DOUBLE"
    return f"{value}" if isinstance(value, int) else f"'{value!r}'::DOUBLE"


_WINDOWS = """FROM (SELECT *, round("end" - start, 4) AS seconds,
    round(yaw_high - yaw_low, 2) AS yaw_span FROM windows)"""

_JUDGED = f"""
    SELECT key, identity, rank, yaw, {_reason("fault")} AS reason,
        fault = 0 AND left_out IS NULL AS kept
    FROM (SELECT key, identity, rank, yaw, left_out, {_settled("view", "lent", "needs")} AS fault
        FROM (SELECT key, identity, rank, lent, reason AS left_out, unnest(views) AS view
            FROM (SELECT *, {RANK} AS rank FROM identities))
        JOIN limits ON view // {_BASE} - 90 = yaw)"""

_BOTH = f"""
    SELECT key, identity, yaw, {_reason("fault_a")} AS a, {_reason("fault_b")} AS b,
        fault_a = 0 AND left_a IS NULL AS kept_a, fault_b = 0 AND left_b IS NULL AS kept_b
    FROM (SELECT key, identity, own.yaw, left_a, left_b,
            {_settled("view_a", "lent_a", "own.needs")} AS fault_a,
            {_settled("view_b", "lent_b", "other.needs")} AS fault_b
        FROM (SELECT key, identity, a AS left_a, b AS left_b, lent_a, lent_b,
                unnest(list_sort(views_a)) AS view_a, unnest(list_sort(views_b)) AS view_b
            FROM both_identities)
        JOIN own_limits AS own ON view_a // {_BASE} - 90 = own.yaw
        JOIN limits AS other ON other.yaw = own.yaw)"""
"""Both lists of an identity are sorted, so that their views are at the same yaws in turn."""
