"""The tables of a run: a row per video, reference, view and window, written and read.

They are Parquet segments, read in duckdb. A segment of windows, views and references is written
before the ledger segment of the same number, so that a ledger row means "everything about this key
is stored". One driver writes at a time (see `datapipe.claim`); a segment appears whole or not at
all.

Segments are numbered without gaps. A store's listing may miss the latest objects for a while, but
asking for one by its name does not: the next names tell what a listing leaves out.
"""

from __future__ import annotations

import glob
import hashlib
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datapipe.concurrent import cores
from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.record import Sample
from datapipe.run.info import RunInfo
from datapipe.run.rows import (
    LEDGER,
    REFERENCES,
    SCORED,
    VIEWS,
    WINDOWS,
    ledger_row,
    parquet_bytes,
    score_tables,
)

STARTED, RECORDED = "harmoview.started", "harmoview.recorded"
"""In the metadata of a ledger segment: when its writer began, and when it wrote the segment, in
seconds since 1970. Rates come from them; nothing else does."""


class Ledger:
    """Appends finished samples to a run's tables, and knows which keys are recorded."""

    def __init__(self, run: Folder) -> None:
        self.run = run
        self._started = time.time()
        self._next = 1 + max((int(_segment(n)) for n in ledger_segments(run)), default=-1)

    def recover(self, generation: int) -> None:
        """Delete what a killed driver left half-done: scores whose ledger segment is missing."""
        finished = {_segment(name) for name in ledger_segments(self.run)}
        for table in SCORED:
            for name in self.run.names(f"{table}/g{generation:04d}-*.parquet"):
                if (number := _segment(name)).isdigit() and number not in finished:
                    self.run.delete(name)

    def append(self, samples: Sequence[Sample], labels: dict[str, str], generation: int) -> None:
        """Write one segment of finished samples; `labels` name the judges (see VIEWS).

        Raises UserError where another process has written that segment.
        """
        segment = f"{self._next:06d}.parquet"
        if self.run.exists(f"ledger/{segment}"):
            raise self._overtaken(segment)
        # never over another's: who lost the lock must not change what its successor scored
        for table, data in score_tables(samples, labels).items():
            if not self.run.put_new(f"{table}/g{generation:04d}-{segment}", data):
                raise self._overtaken(segment)
        times = {STARTED: repr(self._started), RECORDED: repr(time.time())}
        rows = [ledger_row(sample) for sample in samples]
        table = pa.Table.from_pylist(rows, schema=LEDGER.with_metadata(times))
        if not self.run.put_new(f"ledger/{segment}", parquet_bytes(table)):
            raise self._overtaken(segment)
        self._next += 1

    def _overtaken(self, segment: str) -> UserError:
        return UserError(
            f"{self.run.url}: another process wrote segment {segment} meanwhile; see that only one "
            "works on this run, then run the same command again: it continues"
        )

    @property
    def segments(self) -> int:
        """How many segments there are."""
        return self._next

    def recorded_keys(self, segments: int | None = None) -> Iterator[list[str]]:
        """The recorded keys, a segment at a time; of the first `segments` only, if given."""
        for name in ledger_segments(self.run):
            if segments is None or int(_segment(name)) < segments:
                with self.run.open(name) as file:
                    yield pq.read_table(file, columns=["key"])["key"].to_pylist()

    def drop_errors(self) -> int:
        """Take the `error` rows out, so that their samples are done again; returns how many."""
        dropped = 0
        for name in ledger_segments(self.run):
            with self.run.open(name) as file:
                table = pq.read_table(file)
            kept = table.filter(pc.not_equal(table["outcome"], "error"))
            if len(kept) < len(table):
                dropped += len(table) - len(kept)
                put_table(self.run, name, kept)
        return dropped


class KeySet:
    """Keys as sorted 16-byte digests: 16 MB per million instead of the strings."""

    def __init__(self, parts: Iterable[Sequence[str]]) -> None:
        digests = [np.array([_digest(key) for key in part], dtype="V16") for part in parts if part]
        joined = np.concatenate(digests) if digests else np.empty(0, "V16")
        self._sorted = np.sort(joined.view("S16")) if len(joined) else np.empty(0, "S16")

    def __len__(self) -> int:
        return len(self._sorted)

    def __contains__(self, key: str) -> bool:
        wanted = np.array([_digest(key)], dtype="V16").view("S16")
        place = int(np.searchsorted(self._sorted, wanted)[0])
        return place < len(self._sorted) and bool(self._sorted[place] == wanted[0])


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=16).digest()


def put_table(run: Folder, name: str, table: pa.Table) -> None:
    """Write a segment in the place of an earlier one."""
    run.put(name, parquet_bytes(table))


def put_scores(
    run: Folder, samples: Sequence[Sample], labels: dict[str, str], segment: str
) -> None:
    """Write what belongs to scored samples as `views/<segment>` and the like, see `SCORED`."""
    for table, data in score_tables(samples, labels).items():
        run.put(f"{table}/{segment}", data)


def ledger_segments(run: Folder) -> list[str]:
    """`ledger/NNNNNN.parquet`, in order."""
    return _from_zero(run, "ledger/")


def score_segments(run: Folder, table: str, generation: int) -> list[str]:
    """Segments of `table`, one of `SCORED`, in a scoring generation: those that `harmoview score`
    wrote, and those that belong to ledger segments.
    """
    prefix = f"{table}/g{generation:04d}-"
    own = set(run.names(f"{prefix}[0-9]*.parquet"))
    number = len(ledger_segments(run)) - 1
    while number >= 0 and (name := f"{prefix}{number:06d}.parquet") not in own and run.exists(name):
        own.add(name)
        number -= 1
    return sorted({*own, *_from_zero(run, f"{prefix}r")})


def _from_zero(run: Folder, prefix: str) -> list[str]:
    found = set(run.names(f"{prefix}[0-9]*.parquet"))
    last = max((int(name.removeprefix(prefix)[:-8]) for name in found), default=-1)
    missed = [name for number in range(last) if (name := _name(prefix, number)) not in found]
    found.update(name for name in missed if run.exists(name))
    while run.exists(name := _name(prefix, last + 1)):
        found.add(name)
        last += 1
    return sorted(found)


def _name(prefix: str, number: int) -> str:
    return f"{prefix}{number:06d}.parquet"


def _segment(name: str) -> str:
    """`000012` of `ledger/000012.parquet` and of `views/g0000-000012.parquet`.

    Segments of `datapipe.line.rescore` have none of the ledger: `r000012` of
    `g0001-r000012.parquet`.
    """
    return name.rsplit("/", 1)[1].removesuffix(".parquet").rsplit("-", 1)[-1]


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
