"""A run's candidates with their scores, in the order of their keys, a bounded batch at a time.

What of a run passes the rules: the samples that are packed, in the order of their keys.

A run's tables with what the rules say of every identity and view, for duckdb to count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, Self

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.record import Source
from datapipe.run.info import RunInfo
from datapipe.run.tables import next_rows, one_scoring, tables
from filters.judge_sql import Verdicts

SORTING = 2
"""As many in `batches`, where three sorts are under way: 2 fit for 70 million views, 4 did not."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some candidates, complete with every row that belongs to them."""

    candidates: pa.Table
    """Ledger rows by key."""
    references: pa.Table
    """By key and identity."""
    views: pa.Table
    """By key, identity and yaw."""


class Decide(Protocol):
    """The rules, applied to whole identities."""

    def __call__(self, references: pa.Table, views: pa.Table) -> Verdicts:
        """Of these rows, in their order."""

    def judge(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make of the tables `refs` and `views` a table `identities` and a view `judged`.

        `identities` has key, identity, the number of its views as `made`, and as `reason` why it
        is left out; `judged` has key, identity, yaw, as `reason` the first rule that the view
        fails, and as `kept` whether it passes and its identity is kept. No reason is null.
        """

    def compare(self, connection: duckdb.DuckDBPyConnection, other: Self) -> None:
        """Judge by these rules, A, and by others, B; leaves what B's `judge` leaves, and two more.

        `both_identities` has key, identity, and as `a` and `b` the reasons by each; `both_views`
        has key, identity, yaw, `a`, `b`, and as `kept_a` and `kept_b` what `judged` has as `kept`.
        """


@dataclass(frozen=True)
class AppliedRules:
    """What pack and the statistics need to know of the rules."""

    decide: Decide
    described: Mapping[str, Any]
    """As the manifest records them; JSON types."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What of each table is wanted, as SQL."""

    ledger: str = "*"
    references: str = "* EXCLUDE (embedding)"
    views: str = "*"


def batches(
    connection: duckdb.DuckDBPyConnection, samples: int, columns: Columns, after: str = ""
) -> Iterator[Batch]:
    """Every candidate of the run once, `samples` at a time; only those with a key above `after`.

    Raises UserError where the tables contradict each other: a candidate without scores, or with
    scores by two sets of scorers, or twice.
    """
    one_scoring(connection)
    connection.execute(f"SET threads = {SORTING}")
    above = "key > '" + after.replace("'", "''") + "'"
    candidates = f"SELECT {columns.ledger} FROM ledger WHERE outcome = 'candidate' AND {above}"
    in_references = f"SELECT {columns.references} FROM refs WHERE {above} ORDER BY key, identity"
    in_views = f"SELECT {columns.views} FROM views WHERE {above} ORDER BY key, identity, yaw"
    references = _Sorted(connection, in_references, samples)
    views = _Sorted(connection, in_views, samples)
    last = None
    reader = connection.cursor().sql(f"{candidates} ORDER BY key").to_arrow_reader(samples)
    while (part := next_rows(reader)) is not None:
        rows = pa.Table.from_batches([part])
        through = rows["key"][-1].as_py()
        batch = Batch(
            rows,
            _of(rows, references.until(through)),
            _of(rows, views.until(through)),
        )
        _check(batch, last)
        last = through
        yield batch


def subset(batch: Batch, chosen: Any) -> Batch:
    """Some candidates of a batch (one boolean each), with their rows."""
    candidates = batch.candidates.filter(pa.array(chosen))
    return Batch(candidates, _of(candidates, batch.references), _of(candidates, batch.views))


class _Sorted:
    """A sorted query's rows, handed out up to a key at a time."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, query: str, rows: int) -> None:
        self._reader = connection.cursor().sql(query).to_arrow_reader(4 * rows)
        self._rest = self._reader.schema.empty_table()

    def until(self, key: str) -> pa.Table:
        """The next rows up to and with `key`."""
        parts = []
        while True:
            count = pc.sum(pc.less_equal(self._rest["key"], key)).as_py() or 0
            parts.append(self._rest.slice(0, count))
            self._rest = self._rest.slice(count)
            if len(self._rest):
                break
            if (rows := next_rows(self._reader)) is None:
                break
            self._rest = pa.Table.from_batches([rows])
        return pa.concat_tables(parts)


def sample_index(candidates: pa.Table, rows: pa.Table) -> Any:
    """For every row the position of its candidate, as an integer array."""
    found = pc.index_in(rows["key"], candidates["key"].combine_chunks())
    return found.to_numpy().astype(np.int64)


def _of(candidates: pa.Table, rows: pa.Table) -> pa.Table:
    """Without rows of keys that are not in the ledger: a killed driver leaves such."""
    return rows.filter(pc.is_in(rows["key"], candidates["key"].combine_chunks()))


def _check(batch: Batch, last: str | None) -> None:
    keys = batch.candidates["key"]
    again = [key for key in (last, *keys.to_pylist()[:-1])]
    twice = pc.equal(keys, pa.array(again, pa.string()))
    if pc.any(twice).as_py():
        key = keys.filter(twice)[0].as_py()
        raise UserError(f"the ledger holds {key} twice; was the run written by two drivers?")
    references = sample_index(batch.candidates, batch.references)
    views = sample_index(batch.candidates, batch.views)
    expected = batch.candidates["identities"].to_numpy()
    found = np.bincount(references, minlength=len(keys))
    identity = batch.views["identity"].to_numpy()
    yaw = batch.views["yaw"].to_numpy()
    same = (views[1:] == views[:-1]) & (identity[1:] == identity[:-1])
    covered = np.bincount(np.delete(views, 1 + np.flatnonzero(same)), minlength=len(keys))
    double = views[1:][same & (yaw[1:] == yaw[:-1])]
    for wrong, what in (
        (np.flatnonzero((found < expected) | (covered < expected)), "has no complete scores"),
        (np.flatnonzero(found > expected), "is scored twice"),
        (double, "has a view that is scored twice"),
    ):
        if len(wrong):
            key = keys[int(wrong[0])].as_py()
            raise UserError(f"candidate {key} {what}; run `harmoview score RUN`, then this again")


Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KeptSample:
    """A sample that passes the rules: its ledger row, and what goes into a shard."""

    row: Row
    identities: Mapping[int, KeptIdentity]
    """By the number they have in the run; it is also the one in the shard."""

    @property
    def key(self) -> str:
        return str(self.row["key"])

    @property
    def source(self) -> Source:
        row = self.row
        return Source(
            path=row["source_path"],
            suffix=row["suffix"],
            member=row["source_member"],
            offset=row["source_offset"],
            size=row["source_size"],
        )


@dataclass(frozen=True, slots=True)
class KeptIdentity:
    """An identity that passes: its row, and the rows of its passing views by yaw."""

    reference: Row
    views: Mapping[int, Row]


def kept_samples(batch: Batch, verdicts: Verdicts) -> Iterator[KeptSample]:
    """The samples of a batch that have an identity left."""
    references = batch.references.filter(pc.is_null(verdicts.identities))
    views = batch.views.filter(verdicts.kept)
    kept = np.unique(sample_index(batch.candidates, references))
    rows = batch.candidates.take(pa.array(kept)).to_pylist()
    identities: dict[str, dict[int, dict[int, Row]]] = {}
    for view in views.to_pylist():
        of_key = identities.setdefault(view["key"], {})
        of_key.setdefault(view["identity"], {})[view["yaw"]] = view
    passing: dict[str, dict[int, KeptIdentity]] = {}
    for reference in references.to_pylist():
        key, index = reference["key"], reference["identity"]
        passing.setdefault(key, {})[index] = KeptIdentity(reference, identities[key][index])
    for row in rows:
        yield KeptSample(row, passing[row["key"]])


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
    """`candidate_tables` with what `dataset.judged.Decide` makes of their references and
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
