"""A run's tables with what the rules say of every identity and view, for duckdb to count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.pack.scored import AppliedRules
from datapipe.run.info import RunInfo
from datapipe.run.tables import one_scoring, tables


@contextmanager
def candidate_tables(run: Folder, info: RunInfo) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with `ledger`, `candidates` of it (key, number of identities), their `refs`,
    and `views`.

    References of keys that are not in the ledger are left out: a killed driver leaves such, and
    one that is writing has them for a moment. Their views have then no reference, and go with them.

    Raises UserError when the tables cannot be read, or hold scores by two sets of scorers.
    """
    with tables(run, info) as connection:
        one_scoring(connection)
        connection.execute(
            "CREATE TEMP TABLE candidates AS "
            "SELECT key, identities FROM ledger WHERE outcome = 'candidate'"
        )
        connection.execute(
            "CREATE TEMP VIEW refs AS FROM memory.main.refs SEMI JOIN candidates USING (key)"
        )
        yield connection


@contextmanager
def judged_tables(
    run: Folder, info: RunInfo, rules: AppliedRules
) -> Iterator[duckdb.DuckDBPyConnection]:
    """`candidate_tables` with what `datapipe.pack.scored.Decide` makes of their references and
    views: `identities` and `judged`. Nothing is sorted: seconds for ten million views.

    Raises UserError when the tables cannot be read or contradict each other.
    """
    with candidate_tables(run, info) as connection:
        rules.decide.judge(connection)
        check(connection, info)
        yield connection


def check(connection: duckdb.DuckDBPyConnection, info: RunInfo) -> None:
    """Raises UserError where `candidates` and their `identities` contradict each other."""
    twice = connection.execute(
        "SELECT key FROM candidates GROUP BY key HAVING count(*) > 1 ORDER BY key LIMIT 1"
    ).fetchone()
    if twice:
        raise UserError(f"the ledger holds {twice[0]} twice; was the run written by two drivers?")
    wrong = connection.execute(
        """SELECT key, CASE
                WHEN coalesce(complete, 0) < identities THEN 'has no complete scores'
                WHEN found > identities THEN 'is scored twice'
                WHEN most > ? THEN 'has a view that is scored twice' END AS wrong
            FROM candidates LEFT JOIN (
                SELECT key, count(*) AS found, count(made) AS complete, max(made) AS most
                FROM identities GROUP BY key) USING (key)
            WHERE wrong IS NOT NULL ORDER BY key LIMIT 1""",
        [len(info.settings["yaws"])],
    ).fetchone()
    if wrong:
        raise UserError(
            f"candidate {wrong[0]} {wrong[1]}; run `harmoview score RUN`, then this again"
        )
