"""Rows of tables as people write them: Parquet, CSV with any separator, JSON lines."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, cast

from datapipe.corpus.captions import encoding_of
from datapipe.corpus.names import suffix_of
from datapipe.errors import UserError
from datapipe.files import Place

_MAX_FIELD = 16 * 1024 * 1024
"""Characters of a CSV field or line; what is longer is a quote that nobody closed."""
_MAX_OBJECT = 4 * 1024 * 1024
"""Characters of a JSON object."""
_CHUNK = 1024 * 1024
"""Characters of a JSON array that are read at a time."""
_SHOWN = 1000
"""Characters of a table's header in a message."""
_BETWEEN = re.compile(r"[\s,]*")
_ROWS = 4096
"""Of a Parquet file, in memory at once."""
_BUFFER = 1024 * 1024
"""Bytes of a Parquet column in memory at once; without it, a whole row group is read."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: `values` by the names that were asked for."""

    where: str
    """As "line 3": its place in the file, for messages."""
    values: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    """Why the row cannot be read."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that are wanted of a table; the others are not read."""

    path: tuple[str, ...]
    """Names for the videos' paths; a table needs one of them."""
    others: tuple[str, ...]
    named: str | None = None
    """Which of the others the user named: a table with a header needs it."""

    def found_in(self, header: Sequence[str], url: str, *, whole: bool = True) -> dict[str, str]:
        """How the table spells the wanted columns, by their names.

        Space around a name does not count, and its letter case only where several differ in
        nothing else. Raises UserError without a path, or, in a `whole` header, the named one.
        """
        trimmed = {name.strip(): name for name in reversed(header)}
        lower = {name.lower(): spelled for name, spelled in trimmed.items()}
        spelled = {
            name: there
            for name in (*self.path, *self.others)
            if (there := trimmed.get(name, lower.get(name.lower()))) is not None
        }
        columns = ", ".join(header)[:_SHOWN] or "none"
        if "\0" in columns:
            raise UserError(f"{url}: UTF-16 without a byte order mark; save it as UTF-8")
        path = next((spelled[name] for name in self.path if name in spelled), None)
        if path is None:
            raise UserError(
                f"{url}: a manifest needs a column {self.path[0]!r}; its columns are: {columns}. "
                "Rename the column that holds the videos' paths"
            )
        if whole and self.named is not None and self.named not in spelled:
            raise UserError(
                f"{url}: there is no column {self.named!r} for captions; its columns are: "
                f"{columns}. Name another with --caption-field"
            )
        return {"path": path} | {name: spelled[name] for name in self.others if name in spelled}


def rows(place: Place, columns: Columns) -> Iterator[Row]:
    """Every row in order; a row that cannot be read says why.

    Raises UserError when the file is no such table, or cannot be read on.
    """
    suffix = suffix_of(place.name)
    try:
        with place.open() as file:
            if suffix == ".parquet":
                yield from _parquet(file, place.url, columns)
            elif suffix == ".jsonl":
                yield from _jsonl(_text(file), place.url, columns)
            else:
                yield from _csv(_text(file), place.url, columns)
    except PermissionError as fault:
        raise UserError(f"{place.url}: {fault.strerror or fault}. Make it readable") from fault


def _text(file: IO[bytes]) -> io.TextIOWrapper:
    """The file as text; bytes that are none go on as `captions.cleaned` knows them."""
    raw = io.BufferedReader(cast("io.RawIOBase", file))
    encoding = encoding_of(raw.peek(4)[:4])
    errors = "surrogateescape" if encoding == "utf-8-sig" else "replace"
    return io.TextIOWrapper(raw, encoding, errors=errors, newline="")


def _parquet(file: IO[bytes], url: str, columns: Columns) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file, buffer_size=_BUFFER)
        if not table.metadata.num_rows:  # an empty part may lack every column
            return
        names = columns.found_in(table.schema_arrow.names, url)
        number = 0
        for batch in table.iter_batches(_ROWS, columns=list(names.values())):
            found = {name: _values(batch[there]) for name, there in names.items()}
            for values in zip(*found.values(), strict=True):
                number += 1
                yield Row(f"row {number}", dict(zip(found, values, strict=True)))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as fault:
        if isinstance(fault, OSError) and fault.errno is not None:  # the disk's, not Arrow's
            raise
        raise UserError(f"{url}: not a readable Parquet file: {fault}. Write it again") from fault


def _values(column: Any) -> list[Any]:
    """As Python's; a text that is no UTF-8, which Arrow passes on unseen, as its bytes."""
    try:
        return cast("list[Any]", column.to_pylist(maps_as_pydicts="lossy"))
    except UnicodeDecodeError:
        return [_value(scalar) for scalar in column]


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py(maps_as_pydicts="lossy")
    except UnicodeDecodeError as fault:
        return bytes(fault.object)


def _csv(text: io.TextIOWrapper, url: str, columns: Columns) -> Iterator[Row]:
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_FIELD))
    lines = iter(lambda: text.readline(_MAX_FIELD), "")
    first, skipped = next(lines, ""), 0
    separator = re.fullmatch(r"sep=(.)\s*", first)  # Excel's way to say it
    if separator is not None:
        first, skipped = next(lines, ""), 1
    delimiter = separator[1] if separator is not None else _separator(first, columns)
    spaced = f"{delimiter} " in first
    reader = csv.reader(
        itertools.chain([first], lines), delimiter=delimiter, strict=True, skipinitialspace=spaced
    )
    try:
        header = next(reader, [])
        names = columns.found_in(header, url)
        for fields in reader:
            where = f"line {reader.line_num + skipped}"
            if len(fields) == len(header):
                values = dict(zip(reversed(header), reversed(fields), strict=True))
                yield Row(where, {name: values[there] for name, there in names.items()})
            elif fields:  # not an empty line
                wrong = f"{where} has {len(fields)} fields, the header {len(header)}"
                named = {"\t": "a tab", ",": "a comma", ";": "a semicolon"}.get(
                    delimiter, delimiter
                )
                yield Row(where, problem=f"{wrong}; quote fields that hold {named}")
    except csv.Error as fault:
        where = f"line {reader.line_num + skipped}"
        raise UserError(f"{url}: {where}: {fault}. Look for a quote that is not closed") from fault


def _separator(header: str, columns: Columns) -> str:
    """The one that shows a path's column, else the one that makes most columns."""
    found: list[tuple[bool, int, str]] = []
    for delimiter in ",;\t":
        try:
            cells = next(csv.reader([header], delimiter=delimiter), [])
        except csv.Error:
            continue
        names = [cell.strip().lower() for cell in cells]
        found.append((not set(columns.path).isdisjoint(names), len(names), delimiter))
    return max(found, key=lambda entry: entry[:2], default=(False, 0, ","))[2]


def _jsonl(text: io.TextIOWrapper, url: str, columns: Columns) -> Iterator[Row]:
    number, names = 0, dict[str, str]()
    while line := text.readline(_MAX_OBJECT):
        number += 1
        whole = len(line) < _MAX_OBJECT or line.endswith("\n")
        while not whole and (rest := text.readline(_MAX_OBJECT)):
            whole = rest.endswith("\n")
        if not line.strip():
            continue
        if not names and line.lstrip().startswith("["):
            yield from _json_array(text, line.lstrip()[1:], url, columns)
            return
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        keys = list(value) if isinstance(value, dict) else []
        names = names or columns.found_in(keys, url, whole=False)
        yield _json_row(value, names, columns, f"line {number}")


def _json_array(text: io.TextIOWrapper, buffer: str, url: str, columns: Columns) -> Iterator[Row]:
    """The objects of an array, read in pieces: it may be as long as any table."""
    decoder, at, number, names = json.JSONDecoder(), 0, 0, dict[str, str]()
    while True:
        at = _BETWEEN.match(buffer, at).end()  # type: ignore[union-attr]  # it matches anywhere
        if buffer.startswith("]", at):
            return
        try:
            value, end = decoder.raw_decode(buffer, at)
        except (ValueError, RecursionError) as fault:
            more = text.read(_CHUNK) if len(buffer) - at < _MAX_OBJECT else ""
            if not more:
                where = f"element {number + 1}"
                yield Row(where, problem=f"{where} is no JSON ({fault}); none after it is listed")
                return
            buffer, at = buffer[at:] + more, 0
            continue
        number += 1
        keys = list(value) if isinstance(value, dict) else []
        names = names or columns.found_in(keys, url, whole=False)
        yield _json_row(value, names, columns, f"element {number}")
        buffer, at = (buffer[end:], 0) if end > _CHUNK else (buffer, end)


def _json_row(value: object, names: Mapping[str, str], columns: Columns, where: str) -> Row:
    """`names`: how the first row spells what is wanted; another row may have it as it should be."""
    if not value or not isinstance(value, dict):
        return Row(where, problem=f"{where} is no JSON object")
    paths = (*columns.path, names["path"])
    found = {"path": next((value[name] for name in paths if name in value), None)}
    for name in columns.others:
        there = name if name in value else names.get(name)
        if there in value:
            found[name] = value[there]
    return Row(where, found)
