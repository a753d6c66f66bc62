"""Manifests: tables with a video's path in each row, read as a stream."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import posixpath
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any, cast
from urllib.parse import urlsplit

import numpy as np

from datapipe.corpus import captions
from datapipe.corpus.keys import row_key, shared_row_key
from datapipe.errors import UserError
from datapipe.files import Place
from datapipe.record import Sample, Source

_COLUMNS = ("path", "key", "caption")
_MAX_LINE = 4 * 1024 * 1024  # of JSON
_ROWS = 4096  # of a Parquet file, in memory at once
_BUFFER = 1024 * 1024  # of one of its columns; without it, a whole row group is read


@dataclass(frozen=True, slots=True)
class _Row:
    """One row; `problem` says why it names no video."""

    path: str
    key: str | None = None
    caption: str = ""
    problem: str = ""


def check_manifest(place: Place) -> None:
    """Raises UserError when the file is not a manifest."""
    next(_rows(place), None)


def manifest_samples(place: Place) -> Iterator[Sample]:
    """A sample for every row, in order. Reads the file twice: first for keys given twice."""
    shared = _shared_keys(place)
    seen = Counter[str]()
    for row in _rows(place):
        key = row_key(row.key, row.path)
        if _digest(key) in shared:
            first = shared_row_key(row.key, row.path, 0)
            key = shared_row_key(row.key, row.path, seen[first])
            seen[first] += 1
        yield _sample(place, row, key)


def _shared_keys(place: Place) -> frozenset[int]:
    """Digests of the keys of more than one row, in 8 bytes a row.

    Two keys that meet in 8 bytes only get a hash they would not have needed.
    """
    digests = array("Q", (_digest(row_key(row.key, row.path)) for row in _rows(place)))
    if not digests:
        return frozenset()
    ordered = np.frombuffer(digests, np.uint64)
    ordered.sort()
    return frozenset(ordered[1:][ordered[1:] == ordered[:-1]].tolist())


def _digest(key: str) -> int:
    """Of the key as a file system that ignores case sees it."""
    return int.from_bytes(hashlib.blake2b(key.lower().encode(), digest_size=8).digest(), "big")


def _sample(manifest: Place, row: _Row, key: str) -> Sample:
    if row.problem:
        source = Source(manifest.url, PurePosixPath(manifest.name).suffix)
        detail = f"{manifest.url}: {row.problem}"
        return Sample(key, source).stop("rejected", "unreadable", detail)
    suffix = _suffix(row.path)
    sample = Sample(key, Source(_resolve(manifest, row.path), suffix), row.caption)
    if suffix in captions.VIDEOS:
        return sample
    wanted = ", ".join(captions.VIDEOS)
    return sample.stop("rejected", "unreadable", f"{row.path!r} does not end with {wanted}")


def _suffix(path: str) -> str:
    url = path.startswith(("http://", "https://"))
    return PurePosixPath(urlsplit(path).path if url else path).suffix.lower()


def _resolve(manifest: Place, path: str) -> str:
    """An absolute path or URL as it is, else what it is seen from the manifest's folder."""
    if "://" in path or path.startswith("/"):
        return path
    place = manifest.parent.join(path)
    if place.fs is None:
        return place.path  # ".." is the kernel's to resolve
    return Place(place.fs, posixpath.normpath(place.path)).url


def _rows(place: Place) -> Iterator[_Row]:
    read = _READERS[PurePosixPath(place.name).suffix.lower()]
    try:
        with place.open() as file:
            yield from read(file, place.url)
    except PermissionError as fault:
        raise UserError(f"{place.url}: {fault.strerror or fault}. Make it readable") from fault


def _row(values: dict[str, Any], where: str) -> _Row:
    path, key, caption = (_text(values.get(column)) for column in _COLUMNS)
    if not path:
        return _Row(where, None, "", f"{where} has no path")
    return _Row(path, key or None, captions.clean(caption))


def _text(value: Any) -> str:
    if value is None:
        return ""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return captions.well_formed(text)


def _need_path(columns: Sequence[str], url: str) -> None:
    if "path" not in columns:
        found = ", ".join(columns) or "none"
        raise UserError(
            f"{url}: a manifest needs a column 'path'; its columns are: {found}. "
            "Rename the column that holds the videos' paths"
        )


def _parquet(file: IO[bytes], url: str) -> Iterator[_Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file, buffer_size=_BUFFER)
        columns = table.schema_arrow.names
        _need_path(columns, url)
        wanted = [column for column in _COLUMNS if column in columns]
        number = 0
        for batch in table.iter_batches(_ROWS, columns=wanted):
            for values in batch.to_pylist():
                number += 1
                yield _row(values, f"row {number}")
    except pa.ArrowInvalid as fault:
        raise UserError(f"{url}: not a readable Parquet file: {fault}. Write it again") from fault


def _csv(file: IO[bytes], url: str) -> Iterator[_Row]:
    text = io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline="")
    reader = csv.reader(text, strict=True)
    try:
        header = next(reader, [])
        _need_path(header, url)
        for fields in reader:
            where = f"line {reader.line_num}"
            if len(fields) == len(header):
                yield _row(dict(zip(header, fields, strict=True)), where)
            elif fields:  # not an empty line
                wrong = f"{where} has {len(fields)} fields, the header {len(header)}"
                yield _Row(where, problem=f"{wrong}; quote fields that hold a comma")
    except csv.Error as fault:
        where = f"line {reader.line_num}"
        raise UserError(f"{url}: {where}: {fault}. Look for a quote that is not closed") from fault


def _jsonl(file: IO[bytes], url: str) -> Iterator[_Row]:
    lines = io.BufferedReader(cast("io.RawIOBase", file))  # fsspec's readline knows no limit
    number = 0
    while line := lines.readline(_MAX_LINE):
        number += 1
        whole = len(line) < _MAX_LINE or line.endswith(b"\n")
        while not whole and (rest := lines.readline(_MAX_LINE)):
            whole = rest.endswith(b"\n")
        if not line.strip():
            continue
        values = _json_object(line)
        if number == 1:
            _need_path(list(values or {}), url)
        where = f"line {number}"
        yield _row(values, where) if values else _Row(where, problem=f"{where} is no JSON object")


def _json_object(line: bytes) -> dict[str, Any] | None:
    try:
        values = json.loads(line.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


_READERS: dict[str, Callable[[IO[bytes], str], Iterator[_Row]]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".jsonl": _jsonl,
}
