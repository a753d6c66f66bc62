"""One sample's rows in a run's tables, without reading the tables whole."""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow as pa

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.run.info import RunInfo
from datapipe.run.rows import REFERENCES, VIEWS
from datapipe.run.store import CandidateStore
from datapipe.run.tables import ledger_segments, parquet, tables
from dataset.judged import CandidateRows

NEAREST = 5
"""Keys that are named where the one asked for is not there."""
THREADS = 16
"""Most of the time goes into opening files, also on a disk."""


def find_rows(run: Folder, info: RunInfo, key: str) -> CandidateRows:
    """The rows of one sample by the current scorers, in the ledger and in the scores.

    It reads the key column of the whole ledger, and of the scores only the segment it leads to.
    Raises UserError when the run cannot be read, and one that names the nearest keys when the run
    has not this one.
    """
    with tables(run, info) as connection:
        connection.execute(f"SET threads = {THREADS}")

        def rows(name: str, columns: str, order: str) -> pa.Table:
            query = f"SELECT {columns} FROM {parquet(run, [name])} WHERE key = ? ORDER BY {order}"
            return connection.sql(query, params=[key]).to_arrow_table()

        found = _where(connection, run, ledger_segments(run), key)
        if found is None:
            raise UserError(_unknown(connection, run, key))
        ledger = rows(f"ledger/{found}", "*", "key")
        segment = _scored(connection, run, info.scoring.generation, found, key)
        if segment is None:
            return CandidateRows(ledger, REFERENCES.empty_table(), VIEWS.empty_table())
        references = rows(f"references/{segment}", "* EXCLUDE (embedding)", "identity")
        views = rows(f"views/{segment}", "*", "identity, yaw")
        windows = rows(f"windows/{segment}", "*", "identity, start")
        return CandidateRows(ledger, references, views, windows)


def _scored(
    connection: duckdb.DuckDBPyConnection, run: Folder, generation: int, segment: str, key: str
) -> str | None:
    """The segment with a sample's scores: the ledger's own, or one of `harmoview score`."""
    prefix = f"g{generation:04d}-"
    if run.exists(f"references/{prefix}{segment}"):
        return prefix + segment
    return _where(connection, run, run.names(f"references/{prefix}r*.parquet"), key)


def _where(
    connection: duckdb.DuckDBPyConnection, run: Folder, names: list[str], key: str
) -> str | None:
    """The name, without its folder, of the file that holds a key."""
    if not names:
        return None
    # the key alone: reading every column of every file takes twice as long
    query = f"SELECT filename FROM {parquet(run, names)} WHERE key = ? LIMIT 1"
    found = connection.execute(query, [key]).fetchall()
    return str(found[0][0]).rsplit("/", 1)[-1] if found else None


def _unknown(connection: duckdb.DuckDBPyConnection, run: Folder, key: str) -> str:
    """What to say of a key that the ledger does not hold."""
    said = f"{run.url} holds no sample {key!r}"
    if "/" in key or "." in key:  # in no key
        query = "SELECT key FROM ledger WHERE source = $1 OR ends_with(source, '/' || $1)"
        near = connection.execute(f"{query} ORDER BY key LIMIT {NEAREST}", [key]).fetchall()
        if near:
            return f"{said}; that is a path, and its key is {_names(near)}"
        return f"{said}, nor a source that ends so; keys have no dots and slashes"
    if run.exists(CandidateStore.name(key)):
        return (
            f"{said} in its ledger yet, but a candidate of it is stored: the run goes on, or was "
            "ended; the same `harmoview synthesize` command finishes it"
        )
    query = "SELECT key FROM ledger ORDER BY jaro_winkler_similarity(key, ?) DESC, key"
    near = connection.execute(f"{query} LIMIT {NEAREST}", [key]).fetchall()
    if not near:
        return f"{said}: its ledger is empty"
    return f"{said}; the nearest keys are {_names(near)}. `harmoview stats` has examples by outcome"


def _names(rows: list[tuple[Any, ...]]) -> str:
    return ", ".join(str(name) for (name,) in rows)
