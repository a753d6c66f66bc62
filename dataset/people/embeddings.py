"""The reference embeddings of a run's candidates, in a file that is read as memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.run.info import RunInfo
from datapipe.run.tables import next_rows, one_scoring, tables
from dataset.people.clusters import Rows, Vectors

ROWS = 20_000
"""References that are read at a time."""

_NUMBERED = """
CREATE TEMP TABLE numbered AS
SELECT key, identity, sample, row_number() OVER (ORDER BY key, identity) - 1 AS row
FROM refs JOIN (
    SELECT key, row_number() OVER (ORDER BY key) - 1 AS sample
    FROM ledger WHERE outcome = 'candidate'
) USING (key)
"""


@dataclass(frozen=True, eq=False)
class Embeddings:
    """The identities of all candidates, by key and identity."""

    keys: pa.StringArray
    """The keys of all candidates, in their order."""
    sample: Rows
    """For each identity the place of its candidate."""
    identity: npt.NDArray[np.int32]
    """For each identity its number in the sample."""
    vectors: Vectors
    """For each identity its embedding; in a file that is read as memory."""


@contextmanager
def embeddings(run: Folder, info: RunInfo) -> Iterator[Embeddings]:
    """The embeddings of the current scoring.

    Raises UserError when the tables cannot be read, and where there are no embeddings, or some of
    several sizes.
    """
    with (
        tempfile.TemporaryDirectory(prefix="harmoview-") as scratch,
        tables(run, info) as connection,
    ):
        one_scoring(connection)
        keys = connection.sql("SELECT key FROM ledger WHERE outcome = 'candidate' ORDER BY key")
        keys = keys.to_arrow_table()["key"].combine_chunks()
        connection.execute(_NUMBERED)
        rows = connection.sql("SELECT sample, identity FROM numbered ORDER BY row")
        places = rows.to_arrow_table()
        vectors = _vectors(connection, Path(scratch) / "vectors", len(places))
        yield Embeddings(keys, places["sample"].to_numpy(), places["identity"].to_numpy(), vectors)


def _vectors(connection: duckdb.DuckDBPyConnection, path: Path, count: int) -> Vectors:
    lengths = "SELECT DISTINCT len(embedding) FROM refs WHERE len(embedding) > 0"
    widths = sorted(width for (width,) in connection.execute(lengths).fetchall())
    if len(widths) != 1:
        raise UserError(
            f"the references hold embeddings of {len(widths)} sizes, so people cannot be told "
            "apart; run `harmoview score RUN` to measure all with one recogniser"
        )
    vectors = np.memmap(path, np.float32, "w+", shape=(count, widths[0]))
    query = "SELECT row, embedding FROM refs JOIN numbered USING (key, identity)"
    reader = connection.sql(f"{query} WHERE len(embedding) > 0").to_arrow_reader(ROWS)
    while (part := next_rows(reader)) is not None:
        vectors[part["row"].to_numpy()] = _units(part["embedding"], widths[0])
    return vectors


def _units(lists: pa.Array, width: int) -> npt.NDArray[np.float64]:
    values = pc.list_flatten(lists).to_numpy(zero_copy_only=False).reshape(-1, width)
    values = values.astype(np.float64)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    good = np.isfinite(length) & (length > 0)
    return np.where(good, values / np.where(good, length, 1.0), 0.0)
