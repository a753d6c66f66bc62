"""One sample's rows, found in a run of any size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.run.info import RunInfo, load_info
from datapipe.run.segments import ledger_segments
from datapipe.run.store import CandidateStore
from datapipe.run.tables import parquet, tables

Row = Mapping[str, Any]
NEAREST = 5
THREADS = 16
"""Most of the time goes into opening files, also on a disk."""


@dataclass(frozen=True, slots=True)
class SampleRows:
    """What the tables hold of one sample."""

    info: RunInfo
    ledger: Row
    references: list[Row]
    """By identity; with their embeddings left out."""
    views: list[Row]
    """By identity and yaw."""


def find_rows(run: Folder, key: str) -> SampleRows:
    """The rows of a sample by the current scorers.

    Reads the key column of the whole ledger, and of the scores only the segment it leads to.
    Raises UserError when the run cannot be read, and naming the nearest keys when it has not this
    one.
    """
    info = load_info(run)
    with tables(run, info) as connection:
        connection.execute(f"SET threads = {THREADS}")
        segments = ledger_segments(run)
        found = _where(connection, run, segments, key)
        if found is None:
            raise UserError(_unknown(connection, run, key))
        (ledger,) = _rows(connection, run, f"ledger/{found}", key, "*", "key")
        references: list[Row] = []
        views: list[Row] = []
        segment = _scored(connection, run, info.scoring.generation, found, key)
        if segment is not None:
            lean = "* EXCLUDE (embedding)"
            references = _rows(connection, run, f"references/{segment}", key, lean, "identity")
            views = _rows(connection, run, f"views/{segment}", key, "*", "identity, yaw")
    return SampleRows(info, ledger, references, views)


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


def _rows(
    connection: duckdb.DuckDBPyConnection,
    run: Folder,
    name: str,
    key: str,
    columns: str,
    order: str,
) -> list[Row]:
    query = f"SELECT {columns} FROM {parquet(run, [name])} WHERE key = ? ORDER BY {order}"
    table = connection.sql(query, params=[key]).to_arrow_table()
    return list(table.to_pylist())


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
