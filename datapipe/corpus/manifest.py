"""Manifests: tables with a video's path in each row, read as a stream."""

from __future__ import annotations

import hashlib
import posixpath
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from datapipe.corpus import captions
from datapipe.corpus.captions import Captions
from datapipe.corpus.keys import row_key, shared_row_key
from datapipe.corpus.names import VIDEOS, suffix_of, well_formed
from datapipe.corpus.rows import Columns, Row, rows
from datapipe.files import Place, local_path
from datapipe.record import Sample, Source

PATHS = ("path", "file_name")
"""Names of the column with the videos' paths; the second is the hub's."""


@dataclass(frozen=True, slots=True)
class CorpusManifest:
    """A table of videos, in one file or in several parts."""

    base: Place
    """The folder that relative paths are seen from."""
    parts: tuple[Place, ...]
    field: str | None = None
    """The column of the captions; None looks for the usual ones."""

    def check(self) -> None:
        """Raises UserError when this is no manifest."""
        next(self._rows(() if self.field is None else (self.field,)), None)

    def samples(self) -> Iterator[Sample]:
        """A sample for every row, in order. Reads the rows twice: first for keys given twice."""
        shared = self._shared_keys()
        seen = Counter[str]()
        wanted = captions.FIELDS if self.field is None else (self.field,)
        for part, row in self._rows(("key", *wanted)):
            path, given = _path_and_key(row)
            key = row_key(given, path)
            if _digest(key) in shared:
                first = shared_row_key(given, path, 0)
                key = shared_row_key(given, path, seen[first])
                seen[first] += 1
            yield self._sample(part, row, path, key)

    def _rows(self, others: tuple[str, ...] = ("key",)) -> Iterator[tuple[Place, Row]]:
        columns = Columns(PATHS, others, self.field if self.field in others else None)
        for part in self.parts:
            yield from ((part, row) for row in rows(part, columns))

    def _shared_keys(self) -> frozenset[int]:
        """Digests of the keys of more than one row, in 8 bytes a row.

        Two keys that meet in 8 bytes only get a hash they would not have needed.
        """
        found = (_path_and_key(row) for _, row in self._rows())
        digests = array("Q", (_digest(row_key(given, path)) for path, given in found))
        if not digests:
            return frozenset()
        ordered = np.frombuffer(digests, np.uint64)
        ordered.sort()
        return frozenset(ordered[1:][ordered[1:] == ordered[:-1]].tolist())

    def _sample(self, part: Place, row: Row, path: str, key: str) -> Sample:
        missing = not _string(row.values.get("path"))
        if problem := row.problem or (f"{row.where} has no path" if missing else ""):
            source = Source(part.url, suffix_of(part.name))
            detail = f"{part.url}: {problem}"
            return Sample(key, source).stop("rejected", "unreadable", detail)
        place = _resolve(self.base, path)
        suffix = _suffix(place)
        found = captions.from_fields(row.values, self.field)
        if found.problem:
            found = Captions(problem=f"{part.url}: {row.where}: {found.problem}")
        sample = found.on(Sample(key, Source(place, suffix)))
        if suffix in VIDEOS:
            return sample
        wanted = ", ".join(VIDEOS)
        return sample.stop("rejected", "unreadable", f"{path!r} does not end with {wanted}")


def _digest(key: str) -> int:
    """Of the key as a file system that ignores case sees it."""
    return int.from_bytes(hashlib.blake2b(key.lower().encode(), digest_size=8).digest(), "big")


def _path_and_key(row: Row) -> tuple[str, str | None]:
    """What the key follows from; a row without a path goes by its place in the table."""
    path = _string(row.values.get("path"))
    return (path, _string(row.values.get("key")) or None) if path else (row.where, None)


def _string(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str) and value.isascii():
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    try:
        return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:
        return well_formed(str(value))


def _suffix(path: str) -> str:
    url = path.startswith(("http://", "https://"))
    return suffix_of(urlsplit(path).path if url else path)


def _resolve(base: Place, path: str) -> str:
    """An absolute path or URL as it is, else what it is seen from the base."""
    if (local := local_path(path)) is not None:
        return local
    if "://" in path or path.startswith("/"):
        return path
    place = base.join(path)
    if place.fs is None:
        return place.path  # ".." is the kernel's to resolve
    return Place(place.fs, posixpath.normpath(place.path)).url
