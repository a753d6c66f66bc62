"""A run's tables in duckdb: its ledger, and what else belongs to the current scoring."""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import duckdb
import pyarrow as pa

from datapipe.concurrent import cores
from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.run.info import RunInfo
from datapipe.run.ledger import ledger_segments, score_segments
from datapipe.run.rows import LEDGER, REFERENCES, VIEWS, WINDOWS

MEMORY = "1GB"
"""Memory that duckdb may hold; a larger sort spills to the temporary folder."""
THREADS = 8
"""Threads of duckdb, at most: each has buffers of its own, which must all fit into `MEMORY`."""


@contextmanager
def tables(run: Folder, info: RunInfo) -> Iterator[duckdb.DuckDBPyConnection]:
    """A duckdb connection with the run's tables `ledger`, and `refs`, `views` and `windows` of the
    current scoring.

    Raises UserError when they cannot be read, also inside the block.
    """
    generation = info.scoring.generation
    sources = {
        "ledger": (LEDGER, ledger_segments(run)),
        "refs": (REFERENCES, score_segments(run, "references", generation)),
        "views": (VIEWS, score_segments(run, "views", generation)),
        "windows": (WINDOWS, score_segments(run, "windows", generation)),
    }
    with ExitStack() as stack:
        stack.enter_context(_readable(run))
        spill = stack.enter_context(tempfile.TemporaryDirectory(prefix="harmoview-"))
        connection = stack.enter_context(duckdb.connect())
        connection.execute(f"SET memory_limit = '{MEMORY}'")
        connection.execute(f"SET threads = {min(THREADS, cores())}")
        connection.execute("SET temp_directory = ?", [spill])
        connection.execute("SET preserve_insertion_order = false")
        if run.local is None:
            connection.register_filesystem(run.fs)
        for table, (schema, names) in sources.items():
            _define(connection, table, schema, run, names)
        yield connection


@contextmanager
def _readable(run: Folder) -> Iterator[None]:
    try:
        yield
    except duckdb.OutOfMemoryException as wrong:
        raise UserError(
            f"{MEMORY} of memory and the room in {tempfile.gettempdir()} are not enough for the "
            f"tables of {run.url}; point TMPDIR to a folder with more room, or run this on fewer "
            f"CPUs (taskset -c 0-3): {str(wrong).splitlines()[0]}"
        ) from wrong
    except duckdb.Error as wrong:
        raise UserError(f"the tables of {run.url} cannot be read: {wrong}") from wrong


def _define(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    schema: pa.Schema,
    run: Folder,
    names: Sequence[str],
) -> None:
    if not names:
        connection.register("nothing", schema.empty_table())
        connection.execute(f"CREATE TABLE {table} AS FROM nothing")
        return
    connection.execute(f"CREATE VIEW {table} AS FROM {parquet(run, names)}")


def parquet(run: Folder, names: Sequence[str], read: str = "read_parquet") -> str:
    """Files of a run as a table in SQL, in a connection of `tables`, by one of duckdb's readers."""
    files = [run.path(name) for name in names]
    if run.local is None:
        files = [str(run.fs.unstrip_protocol(file)) for file in files]
    # duckdb takes each for a pattern
    quoted = ", ".join("'" + glob.escape(file).replace("'", "''") + "'" for file in files)
    return f"{read}([{quoted}])"


def one_scoring(connection: duckdb.DuckDBPyConnection) -> None:
    """Raises UserError where the tables hold scores by two sets of scorers."""
    judges = "SELECT DISTINCT aesthetic_scorer, recogniser, pose_estimator FROM"
    found = connection.execute(f"{judges} views UNION {judges} refs").fetchall()
    if len(found) > 1:
        mixed = "; ".join(", ".join(map(str, row)) for row in sorted(found, key=str))
        raise UserError(
            f"the views were scored by different scorers ({mixed}), which no one set of rules can "
            "judge; run `harmoview score RUN` to measure all with the same"
        )


def next_rows(reader: pa.RecordBatchReader) -> pa.RecordBatch | None:
    """The next rows of a query by duckdb; None at the end.

    Raises duckdb.Error, for `tables` to explain: pyarrow hands it on as an OSError.
    """
    try:
        return reader.read_next_batch()
    except StopIteration:
        return None
    except OSError as wrong:
        full = str(wrong).startswith("Out of Memory")
        raise (duckdb.OutOfMemoryException if full else duckdb.IOException)(str(wrong)) from wrong
