"""`metadata.csv` and its like: one table with the captions of the files in its folder and below."""

from __future__ import annotations

import json
import posixpath
import sqlite3
import threading
from collections.abc import Iterator

from datapipe.corpus import captions
from datapipe.corpus.captions import Captions
from datapipe.corpus.names import folded, well_formed
from datapipe.corpus.rows import Columns, rows
from datapipe.errors import UserError
from datapipe.files import Place

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
"""In order of preference."""
_FILE = "file_name"


class Metadata:
    """Captions by a file's path below the folder of the table.

    The table is read when the first of them is asked for, into a temporary file: memory does not
    grow with it. A row for each of several captions of a file is as good as a list in one row.
    """

    def __init__(
        self, place: Place, relative: str, field: str | None, above: Metadata | None
    ) -> None:
        """`relative` is the folder's path below the corpus root; `above` knows what this does not.

        Raises UserError when the table has no column `file_name`, or cannot be read.
        """
        self.relative, self.above = relative, above
        self._place = place
        self._field = field
        names = captions.FIELDS if field is None else (field,)
        self._columns = Columns((_FILE,), names)
        self._lock = threading.Lock()
        self._table: sqlite3.Connection | None = None
        self._problem = ""
        next(rows(place, self._columns), None)

    def is_at(self, place: Place) -> bool:
        return self._place.path == place.path

    def captions(self, path: str) -> Captions:
        """Those of a file, by its path below the corpus root."""
        found = self._own(path.removeprefix(self.relative))
        if found is not None:
            return found
        above = self.above.captions(path) if self.above is not None else Captions()
        return above if above.texts or not self._problem else Captions(problem=self._problem)

    def _own(self, name: str) -> Captions | None:
        wanted = folded(name)
        with self._lock:  # the pieces of a store's listing are made in threads
            if self._table is None:
                self._table = self._read()
            query = "SELECT name, texts, problem FROM captions WHERE folded = ? LIMIT ?"
            found = self._table.execute(query, (wanted, captions.MAX_CAPTIONS)).fetchall()
        exact = [row for row in found if row[0] == name]
        if not exact and len({row[0] for row in found}) > 1:
            return None  # several files that differ in their letter case only, and none is this
        matching = exact or found
        texts = tuple(text for _, listed, _ in matching for text in json.loads(listed))
        problem = next((problem for *_, problem in matching if problem), "")
        if not matching:
            return None
        return Captions(texts[: captions.MAX_CAPTIONS], "" if texts else problem)

    def _read(self) -> sqlite3.Connection:
        table = sqlite3.connect("", check_same_thread=False)  # a file of its own that goes with it
        table.execute("CREATE TABLE captions (folded, name, texts, problem)")
        table.executemany("INSERT INTO captions VALUES (?, ?, ?, ?)", self._entries())
        table.execute("CREATE INDEX by_name ON captions (folded)")
        return table

    def _entries(self) -> Iterator[tuple[str, str, str, str]]:
        url = self._place.url
        try:
            for row in rows(self._place, self._columns):
                path = row.values.get("path")
                if row.problem or not isinstance(path, str):
                    problem = row.problem or f"{row.where} has no {_FILE}"
                    self._problem = self._problem or f"{url}: {problem}"
                    continue
                name = posixpath.normpath(well_formed(path).replace("\\", "/"))
                found = captions.from_fields(row.values, self._field)
                problem = f"{url}: {row.where}: {found.problem}" if found.problem else ""
                yield folded(name), name, json.dumps(found.texts), problem
        except UserError as broken:  # what came before is known
            self._problem = str(broken)
