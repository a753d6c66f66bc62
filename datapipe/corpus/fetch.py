"""A video's bytes: as a stream, or as a local file for a decoder."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from datapipe.errors import BadSample
from datapipe.files import Place, is_about_the_path, place
from datapipe.record import Source

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CHUNK = 8 * 1024 * 1024  # one request to an object store


@contextmanager
def open_source(source: Source) -> Iterator[tuple[IO[bytes], int]]:
    """The video's bytes as a file that reads forwards, and how many they are.

    Raises BadSample("unreadable") when there is no such file, it may not be read or is empty, and
    while reading when it ends early. A broken disk, or a host on the web that does not answer,
    raises its own error: that says nothing about the video. Raises UserError when an object store
    stays away, PermissionError when it refuses this object.
    """
    where = _place(source)
    opened = _open_local(where.path) if where.fs is None else _open_remote(where, source)
    with opened as (read, length):
        size = length - source.offset if source.size is None else source.size
        if size <= 0:
            raise BadSample("unreadable", f"{source}: empty")
        with io.BufferedReader(_Span(read, source, size), _CHUNK) as file:
            yield file, size


@contextmanager
def local_copy(source: Source, max_bytes: int) -> Iterator[Path]:
    """A local file with exactly the video's bytes, valid inside the block.

    Raises as `open_source` does, and BadSample("too_large") above `max_bytes`.
    """
    with open_source(source) as (file, size):
        if size > max_bytes:
            raise BadSample("too_large", f"{source}: {size:,} bytes, the limit is {max_bytes:,}")
        where = _place(source)
        if where.fs is None and source.member is None:
            yield Path(where.path)
            return
        # Named by us, never by the input: a member's name may hold anything.
        with tempfile.NamedTemporaryFile(prefix="harmoview-", suffix=source.suffix) as copy:
            shutil.copyfileobj(file, copy, _CHUNK)
            copy.flush()
            yield Path(copy.name)


_Read = Callable[[int, int], bytes]
"""At most so many bytes from this position on; none beyond the end."""


class _Span(io.RawIOBase):
    """A video's bytes within a file."""

    def __init__(self, read: _Read, source: Source, size: int) -> None:
        self._read, self._source, self._size = read, source, size
        self._done = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        wanted = min(len(view), self._size - self._done)
        if not wanted:
            return 0
        data = self._read(self._source.offset + self._done, wanted)
        if not data:
            detail = f"{self._source}: ends after {self._done:,} of {self._size:,} bytes"
            raise BadSample("unreadable", detail)
        view[: len(data)] = data
        self._done += len(data)
        return len(data)


def _place(source: Source) -> Place:
    try:
        return place(source.path)
    except ValueError as fault:  # a scheme that does not exist, a zero byte in the path
        raise BadSample("unreadable", f"{source}: {fault}") from fault


@contextmanager
def _open_local(path: str) -> Iterator[tuple[_Read, int]]:
    handle, size = _local_handle(path)
    try:
        yield lambda position, count: os.pread(handle, count, position), size
    finally:
        os.close(handle)


def _local_handle(path: str) -> tuple[int, int]:
    try:
        found = Path(path).stat()
        if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for ever
            raise BadSample("unreadable", f"{path}: not a regular file")
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC), found.st_size
    except ValueError as fault:  # a zero byte, or half a surrogate pair
        raise BadSample("unreadable", f"{path!r}: {fault}") from fault
    except OSError as fault:
        if not is_about_the_path(fault):
            raise
        raise BadSample("unreadable", f"{path}: {fault.strerror}") from fault


@contextmanager
def _open_remote(where: Place, source: Source) -> Iterator[tuple[_Read, int]]:
    def read(position: int, count: int) -> bytes:
        with _missing_is_bad(source):
            data = bytes(where.ask(where.fs.cat_file, start=position, end=position + count))
        if len(data) > count:
            raise OSError(f"{where.url}: the server does not read parts of files")
        return data

    if source.size is not None:
        yield read, source.offset + source.size
        return
    with _missing_is_bad(source):
        info = where.ask(where.fs.info)
    if info["type"] != "file" or info["size"] is None:
        raise BadSample("unreadable", f"{source}: not a file of known size")
    yield read, int(info["size"])


@contextmanager
def _missing_is_bad(source: Source) -> Iterator[None]:
    """Only what is not there is the video's fault; a refusal may be a matter of credentials."""
    try:
        yield
    except FileNotFoundError as fault:
        raise BadSample("unreadable", f"{source}: no such object") from fault
