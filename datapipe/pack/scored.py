"""A run's candidates with their scores, in the order of their keys, a bounded batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datapipe.errors import UserError
from datapipe.run.tables import next_rows, one_scoring

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


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What the rules say about a batch."""

    identities: Any
    """For each row of `references`, why the identity is left out; a string, null if it is kept."""
    views: Any
    """For each row of `views`, the first rule that it fails; a string, null if it passes."""
    kept: Any
    """For each row of `views`, whether it passes and its identity is kept."""


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
