"""Tars whose bytes depend on nothing but their members.

Reads a tar that nobody vouches for: one pass, a hash, bounded memory, nothing is extracted.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO


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


def read_members(data: bytes) -> dict[str, bytes]:
    """Every regular file of a tar by name. Raises tarfile.TarError when it is damaged."""
    members = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        for info in tar:
            file = tar.extractfile(info)
            if file is not None:
                members[info.name] = file.read()
    return members


CHUNK = 1 << 20
LARGEST_EXTENSION = 64 << 10
"""Bytes of an extended header. Ours hold one long name; tarfile would read one of any size."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A member as found; `data` only where it was asked for."""

    name: str
    size: int
    data: bytes | None


class TarReader:
    """The members of a tar in their order, from a stream that cannot seek.

    Only plain files and PAX headers are known, as `datapipe.tar` writes them. Anything else (links,
    devices, folders, sparse files) raises tarfile.ReadError, as does damage.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._position = 0

    def entries(self, suffix: str, limit: int) -> Iterator[Entry]:
        """Every member; with its bytes where the name ends in `suffix` and it is within `limit`.

        Raises tarfile.ReadError.
        """
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
            if name.endswith(suffix) and size <= limit:
                yield Entry(name, size, self._exactly(size, name))
            else:
                self._skip(size, name)
                yield Entry(name, size, None)
            self._skip(-size % tarfile.BLOCKSIZE, name)

    def finish(self) -> tuple[str, int]:
        """Read on to the end of the file; its SHA-256 and size."""
        while self._read(CHUNK):
            pass
        return self._hash.hexdigest(), self._position

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
        data = self._exactly(size, "an extended header")
        self._skip(-size % tarfile.BLOCKSIZE, "an extended header")
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
        while size and (part := self._read(size)):
            parts.append(part)
            size -= len(part)
        if size:
            raise tarfile.ReadError(f"the file ends within {name}")
        return b"".join(parts)

    def _skip(self, size: int, name: str) -> None:
        while size and (part := self._read(min(size, CHUNK))):
            size -= len(part)
        if size:
            raise tarfile.ReadError(f"the file ends within {name}")

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._hash.update(data)
        self._position += len(data)
        return data


def _size(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise tarfile.ReadError(f"{name!r} has no valid size")
    return int(text)
