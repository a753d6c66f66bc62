"""A run's tables with what the rules say of them: counted in duckdb, or read sample by sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.record import Source
from datapipe.run.info import RunInfo, load_info
from datapipe.run.rows import WINDOWS
from datapipe.run.tables import next_rows, one_scoring, tables
from filters.judge_sql import TableJudge
from filters.rules import Rules

SORTING_THREADS = 2
"""Threads of `candidate_rows`, which sorts three tables at once, with buffers for each thread. With
2, 70 million views were sorted in the memory that duckdb may use; with 4 they were not."""

Row = Mapping[str, Any]
"""A row of a table, by column."""


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """A run's tables in duckdb, with what the rules say of every identity and view."""

    run: Folder
    info: RunInfo
    rules: Rules
    connection: duckdb.DuckDBPyConnection
    """Holds what `candidate_tables` has, `identities` and `judged` of `TableJudge.judge`,
    and `judged_windows`."""


@contextmanager
def judged_run(run: Folder, rules: Rules) -> Iterator[JudgedRun]:
    """Judge a whole run. Nothing is sorted: it takes seconds for ten million views.

    Raises UserError when the tables cannot be read or contradict each other.
    """
    info = load_info(run)
    with candidate_tables(run, info) as connection:
        judge = TableJudge(rules)
        judge.judge(connection)
        judge.judge_windows(connection)
        check_scores(connection)
        yield JudgedRun(run, info, rules, connection)


@contextmanager
def candidate_tables(run: Folder, info: RunInfo) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with `ledger`, `candidates` of it (key, number of identities), their `refs`,
    and `views`.

    It leaves out references of keys that are not in the ledger, which a driver that was killed
    leaves, and one that is writing has for a moment. Their views then belong to no identity.

    Raises UserError when the tables cannot be read, name a candidate twice, or hold scores by two
    sets of scorers.
    """
    with tables(run, info) as connection:
        one_scoring(connection)
        connection.execute(f"CREATE TEMP TABLE candidates AS SELECT key, identities {_CANDIDATES}")
        check_keys(connection, "FROM candidates")
        connection.execute(
            "CREATE TEMP VIEW refs AS FROM memory.main.refs SEMI JOIN candidates USING (key)"
        )
        yield connection


_CANDIDATES = "FROM ledger WHERE outcome = 'candidate'"


def check_keys(connection: duckdb.DuckDBPyConnection, candidates: str) -> None:
    """Raises UserError where the candidates, a FROM clause in SQL, have a key twice."""
    twice = connection.execute(
        f"SELECT key {candidates} GROUP BY key HAVING count(*) > 1 ORDER BY key LIMIT 1"
    ).fetchone()
    if twice:
        raise UserError(f"the ledger holds {twice[0]} twice; was the run written by two drivers?")


def check_scores(connection: duckdb.DuckDBPyConnection) -> None:
    """Raises UserError where `candidates` and their judged `identities` contradict each other."""
    wrong = connection.execute(
        """SELECT key, CASE
                WHEN coalesce(complete, 0) < identities THEN 'has no complete scores'
                WHEN found > identities THEN 'is scored twice'
                WHEN twice THEN 'has a view that is scored twice' END AS wrong
            FROM candidates LEFT JOIN (
                SELECT key, count(*) AS found, count(made) AS complete, bool_or(twice) AS twice
                FROM identities GROUP BY key) USING (key)
            WHERE wrong IS NOT NULL ORDER BY key LIMIT 1"""
    ).fetchone()
    if wrong:
        raise UserError(
            f"candidate {wrong[0]} {wrong[1]}; run `harmoview score RUN`, then this again"
        )


@dataclass(frozen=True, slots=True)
class CandidateRows:
    """Some candidates, complete with every row that belongs to them."""

    candidates: pa.Table
    """Ledger rows by key."""
    references: pa.Table
    """By key and identity."""
    views: pa.Table
    """By key, identity, yaw and source; one a yaw once they are judged."""
    windows: pa.Table = field(default_factory=WINDOWS.empty_table)
    """By key, identity and start; empty where nobody asks for them."""

    def of(self, chosen: npt.NDArray[np.bool_]) -> CandidateRows:
        """Some of the candidates (one boolean each), with their rows."""
        candidates = self.candidates.filter(pa.array(chosen))
        return CandidateRows(
            candidates,
            _of(candidates, self.references),
            _of(candidates, self.views),
            _of(candidates, self.windows),
        )


@dataclass(frozen=True, slots=True)
class RowColumns:
    """The columns of each table that are wanted, as SQL."""

    ledger: str = "*"
    references: str = "* EXCLUDE (embedding)"
    views: str = "*"
    windows: str | None = None
    """None: no windows."""


def candidate_rows(
    connection: duckdb.DuckDBPyConnection, samples: int, columns: RowColumns, after: str = ""
) -> Iterator[CandidateRows]:
    """Every candidate of a run once, `samples` at a time, by key; only keys above `after`.

    Takes a connection of `tables`. Raises UserError where the ledger has a
    candidate twice, or scores are by several scorers.
    """
    one_scoring(connection)
    check_keys(connection, _CANDIDATES)
    connection.execute(f"SET threads = {SORTING_THREADS}")
    above = "key > '" + after.replace("'", "''") + "'"
    candidates = f"SELECT {columns.ledger} {_CANDIDATES} AND {above}"
    in_references = f"SELECT {columns.references} FROM refs WHERE {above} ORDER BY key, identity"
    in_views = f"SELECT {columns.views} FROM views WHERE {above} "
    in_views += "ORDER BY key, identity, yaw, source"
    references = _SortedRows(connection, in_references, samples)
    views = _SortedRows(connection, in_views, samples)
    in_windows = f"SELECT {columns.windows or '*'} FROM windows WHERE {above} AND "
    in_windows += f"{columns.windows is not None} ORDER BY key, identity, start"
    windows = _SortedRows(connection, in_windows, samples)
    reader = connection.cursor().sql(f"{candidates} ORDER BY key").to_arrow_reader(samples)
    while (part := next_rows(reader)) is not None:
        rows = pa.Table.from_batches([part])
        last = rows["key"][-1].as_py()
        yield CandidateRows(
            rows, *(_of(rows, table.up_to(last)) for table in (references, views, windows))
        )


class _SortedRows:
    """The rows of a query that is sorted by key, handed out up to one key after the other."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, query: str, rows: int) -> None:
        self._reader = connection.cursor().sql(query).to_arrow_reader(4 * rows)
        self._rest = self._reader.schema.empty_table()

    def up_to(self, key: str) -> pa.Table:
        """The next rows, up to and with those of `key`."""
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


def _of(candidates: pa.Table, rows: pa.Table) -> pa.Table:
    return rows.filter(pc.is_in(rows["key"], candidates["key"].combine_chunks()))


def sample_index(candidates: pa.Table, rows: pa.Table) -> npt.NDArray[np.int64]:
    """For every row the position of its candidate."""
    found = pc.index_in(rows["key"], candidates["key"].combine_chunks())
    return np.asarray(found.to_numpy(), np.int64)


def judge_rows(rows: CandidateRows, judge: TableJudge) -> CandidateRows:
    """The same rows with what the rules say, as more columns: of references the `reason` why the
    identity is left out, of the views that count (see `TableJudge.judge`) the `reason` they fail
    for and whether they are `kept`, of
    windows the `reason` that training does not use them; no reason is null.

    Raises UserError when a candidate's scores are incomplete or there twice, or a view is at a yaw
    that the rules are not for.
    """
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("candidates", rows.candidates.select(["key", "identities"]))
        connection.register("refs", rows.references)
        connection.register("views", rows.views)
        connection.register("windows", rows.windows)
        judge.judge_windows(connection)
        try:
            judge.judge(connection)
        except duckdb.InvalidInputException as wrong:
            raise UserError(f"the scores cannot be judged: {wrong}") from wrong
        check_scores(connection)
        references = connection.sql(
            "SELECT refs.*, reason FROM refs JOIN identities USING (key, identity) "
            "ORDER BY key, identity"
        )
        views = connection.sql(
            "SELECT shown.*, reason, kept FROM shown JOIN judged USING (key, identity, yaw) "
            "ORDER BY key, identity, yaw"
        )
        windows = connection.sql(
            "SELECT * EXCLUDE (seconds, yaw_span) FROM judged_windows ORDER BY key, identity, start"
        )
        return replace(
            rows,
            references=references.to_arrow_table(),
            views=views.to_arrow_table(),
            windows=windows.to_arrow_table(),
        )


@dataclass(frozen=True, slots=True)
class Giver:
    """Another video's identity, whose references a sample gets."""

    key: str
    identity: int
    candidate: str
    """Path below the run folder."""


@dataclass(frozen=True, slots=True)
class KeptIdentity:
    """An identity that passes: its row, and the rows of its passing views by yaw."""

    reference: Row
    views: Mapping[int, Row]
    windows: tuple[Row, ...] = ()
    """Those that pass, in order of time."""
    giver: Giver | None = None
    """Whose reference and views these are; None: its own."""
    other_shots: bool = False
    """Whether `windows` are only those of other shots than its own reference's."""

    @property
    def origin(self) -> Literal["own", "shot", "other"]:
        """Whose references it gets: those of the clip, of another shot of it, of another video."""
        if self.giver is not None:
            return "other"
        return "shot" if self.other_shots else "own"


OTHER = "+other"
"""Behind the key of a sample that is there a second time, with other references. No key has a +,
and it sorts before whatever a longer key goes on with."""


@dataclass(frozen=True, slots=True)
class KeptSample:
    """A sample that passes the rules: its ledger row, and what goes into a shard."""

    row: Row
    identities: Mapping[int, KeptIdentity]
    """By the number they have in the run; it is also the one in the shard."""

    again: bool = False
    """Whether it is there a second time."""

    @property
    def key(self) -> str:
        """In the shard."""
        return str(self.row["key"]) + (OTHER if self.again else "")

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


def kept_samples(judged: CandidateRows) -> Iterator[KeptSample]:
    """The samples, among rows that `judge_rows` has judged, that have an identity left."""
    references = judged.references.filter(pc.is_null(judged.references["reason"]))
    views = judged.views.filter(judged.views["kept"])
    kept = np.unique(sample_index(judged.candidates, references))
    rows = judged.candidates.take(pa.array(kept)).to_pylist()
    views_of: dict[tuple[str, int], dict[int, Row]] = {}
    for view in views.to_pylist():
        views_of.setdefault((view["key"], view["identity"]), {})[view["yaw"]] = view
    windows = judged.windows.filter(pc.is_null(judged.windows["reason"]))
    windows_of: dict[tuple[str, int], list[Row]] = {}
    for window in windows.to_pylist():
        windows_of.setdefault((window["key"], window["identity"]), []).append(window)
    passing: dict[str, dict[int, KeptIdentity]] = {}
    for reference in references.to_pylist():
        key, index = reference["key"], reference["identity"]
        passing.setdefault(key, {})[index] = KeptIdentity(
            reference, views_of[key, index], tuple(windows_of.get((key, index), ()))
        )
    for row in rows:
        yield KeptSample(row, passing[row["key"]])
