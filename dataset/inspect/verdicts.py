"""Every view and window of a run with what the rules say of it, as one table."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.run.tables import next_rows
from dataset.judged import SORTING_THREADS, JudgedRun

ROWS = 50_000
"""Rows that are read and written at a time."""
VIEWS = """SELECT shown.*, judged.reason, judged.kept, identities.reason AS identity_reason
    FROM shown JOIN judged USING (key, identity, yaw) JOIN identities USING (key, identity)
    ORDER BY key, identity, yaw"""
"""The columns of RUN/views, of each yaw the view that the rules choose; why the rules reject it,
whether a pack holds it, and why its identity is left out. No reason is null."""
WINDOWS = """FROM judged_windows SEMI JOIN candidates USING (key) ORDER BY key, identity, start"""
"""The columns of RUN/windows; `seconds`, `yaw_span`, and why training does not use the window."""


def views_table(judged: JudgedRun) -> pa.Table:
    """All views of a run by `VIEWS`, in memory."""
    return judged.connection.sql(VIEWS).to_arrow_table()


def windows_table(judged: JudgedRun) -> pa.Table:
    """All windows of a run by `WINDOWS`, in memory."""
    return judged.connection.sql(WINDOWS).to_arrow_table()


def export_views(judged: JudgedRun, path: Path) -> int:
    """Write all views by `VIEWS` to a Parquet file, whole or not at all; how many there are.

    Memory does not grow with the run. Raises UserError where the file cannot be written.
    """
    judged.connection.execute(f"SET threads = {SORTING_THREADS}")
    reader, count = judged.connection.sql(VIEWS).to_arrow_reader(ROWS), 0
    try:
        with (
            Folder(path.resolve().parent).create(path.name) as file,
            pq.ParquetWriter(file, reader.schema) as writer,
        ):
            while (rows := next_rows(reader)) is not None:
                writer.write_batch(rows)
                count += len(rows)
    except OSError as wrong:
        raise UserError(f"cannot write {path}: {wrong.strerror or wrong}") from wrong
    return count
