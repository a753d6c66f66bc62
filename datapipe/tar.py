"""Tars whose bytes depend on nothing but their members; and a reader of tars from strangers.

The reader takes one pass with bounded memory and extracts nothing to a disk, so that no name in a
tar leads anywhere.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO

CHUNK = 1 << 20
LARGEST_EXTENSION = 64 << 10
"""Bytes of an extended header. Ours hold one long name; tarfile would read one of any size."""


def open_writer(file: IO[bytes]) -> tarfile.TarFile:
    """A writer for `add`; the format is fixed, since Python's default has changed before."""
    return tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)


def add(tar: tarfile.TarFile, name: str, data: bytes | IO[bytes], size: int | None = None) -> None:
    """Append a member with fixed metadata. A file object needs its `size`."""
    info = tarfile.TarInfo(name)
    info.mtime, info.mode, info.uid, info.gid = 0, 0o644, 0, 0
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    info.size = len(data) if isinstance(data, bytes) else size or 0
    tar.addfile(info, stream)


def padded(size: int) -> int:
    """Bytes that a file of `size` takes in a tar, which is made of whole blocks."""
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def closed(size: int) -> int:
    """Bytes of the whole tar whose members take `size`: zeros end it, two blocks at least, and fill
    a record.
    """
    return -(-(size + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def tar_of(members: Mapping[str, bytes]) -> bytes:
    """A whole tar; `read_members` reads it back."""
    buffer = io.BytesIO()
    with open_writer(buffer) as writer:
        for name, data in members.items():
            add(writer, name, data)
    return buffer.getvalue()


def read_members(data: bytes) -> dict[str, bytes]:
    """Every member of a tar by name. Raises tarfile.ReadError where it is damaged."""
    reader = TarReader(io.BytesIO(data))
    return {member.name: reader.read() for member in reader}


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in a tar, as its header describes it."""

    name: str
    size: int
    begin: int
    """Where its bytes are in the tar."""


class TarReader:
    """The members of a tar, in their order.

    Only plain files and PAX headers are known, as `open_writer` writes them. Anything else (links,
    devices, folders, sparse files) raises tarfile.ReadError, as does damage.
    """

    def __init__(self, file: IO[bytes], *, hashed: bool = False) -> None:
        """`file` stands at its beginning. With `hashed` it need not be able to seek, and is read
        whole; else what is not asked for is passed over.
        """
        self._file = file
        self._sha256 = hashlib.sha256() if hashed else None
        self._end = None if hashed else file.seek(0, io.SEEK_END)
        if not hashed:
            file.seek(0)
        self._position = 0
        self._at = Entry("", 0, 0)

    def __iter__(self) -> Iterator[Entry]:
        """Raises tarfile.ReadError."""
        extension: dict[str, str] = {}
        while (info := self._header()) is not None:
            if info.type == tarfile.XHDTYPE:
                extension = self._extension(info.size)
                continue
            name = extension.get("path", info.name)
            size = _size(extension.get("size", str(info.size)), name)
            extension = {}
            if info.type != tarfile.REGTYPE:
                raise tarfile.ReadError(f"{name!r} is not a plain file")
            self._at = Entry(name, size, self._position)
            yield self._at
            self._skip_to(self._at.begin + padded(size), name)

    def read(self) -> bytes:
        """The bytes of the member that came last; once. Raises tarfile.ReadError.

        They all go into memory: `size` says how many there are.
        """
        return self._exactly(self._at.size, self._at.name)

    def finish(self) -> tuple[str, int]:
        """Read on to the end of a hashed file; its SHA-256 and size."""
        while self._read(CHUNK):
            pass
        return self._sha256.hexdigest() if self._sha256 else "", self._position

    def _header(self) -> tarfile.TarInfo | None:
        begin = self._position
        block = self._exactly(tarfile.BLOCKSIZE, "a header")
        if not block.strip(b"\0"):
            return None
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as bad:
            raise tarfile.ReadError(f"damaged header at byte {begin}: {bad}") from bad

    def _extension(self, size: int) -> dict[str, str]:
        """The records "LENGTH KEY=VALUE\\n" of a PAX header, LENGTH counting all of the record."""
        if not 0 <= size <= LARGEST_EXTENSION:
            raise tarfile.ReadError(f"extended header of {size} bytes")
        data = self._exactly(padded(size), "an extended header")[:size]
        found = {}
        while data:
            digits = data.partition(b" ")[0]
            end = int(digits) if digits.isdigit() and len(digits) <= 6 else 0
            name, equals, value = data[len(digits) + 1 : max(end - 1, 0)].partition(b"=")
            if not equals or end > len(data) or data[end - 1 : end] != b"\n":
                raise tarfile.ReadError("damaged extended header")
            found[name.decode(errors="replace")] = value.decode(errors="replace")
            data = data[end:]
        return found

    def _exactly(self, size: int, name: str) -> bytes:
        parts = []
        while size and (part := self._read(min(size, CHUNK))):
            parts.append(part)
            size -= len(part)
        if size:
            raise tarfile.ReadError(f"the file ends within {name}")
        return b"".join(parts)

    def _skip_to(self, position: int, name: str) -> None:
        if self._end is not None and position <= self._end:
            self._position = self._file.seek(position)
        while self._position < position:
            if not self._read(min(position - self._position, CHUNK)):
                raise tarfile.ReadError(f"the file ends within {name}")

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        if self._sha256 is not None:
            self._sha256.update(data)
        self._position += len(data)
        return data


def _size(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise tarfile.ReadError(f"{name!r} has no valid size")
    return int(text)
