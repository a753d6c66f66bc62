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
MOST_EXTENSIONS = 16
"""Extended headers of one member; other programs write two or three."""
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENSIONS = (*_PAX, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


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
    kind: bytes = tarfile.REGTYPE
    """As tarfile names it; a sparse file is always GNUTYPE_SPARSE."""
    tar: int = 0
    """How many tars end before this one in the same file."""


class TarReader:
    """The members of a tar, in their order.

    Only plain files and PAX headers are known, as `open_writer` writes them. Anything else (links,
    devices, folders, sparse files) raises tarfile.ReadError, as does damage. `of_any_kind` reads
    what other programs write.
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
        self._block = b""

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

    def of_any_kind(self) -> Iterator[Entry]:
        """The members of a tar that any program wrote, and of those that follow it in the file.

        Links, devices and folders are listed as what they are. Needs a file that can seek. Raises
        tarfile.ReadError where a tar is damaged or ends too early, after what comes before that.
        """
        tars = 0
        if not self._end:
            raise tarfile.ReadError("the file is empty")
        while True:
            extensions: list[dict[str, str]] = []
            while (info := self._header(last=self._position > 0)) is not None:
                if info.type in _EXTENSIONS:
                    extensions.append(self._any_extension(info))
                    if len(extensions) > MOST_EXTENSIONS:
                        raise tarfile.ReadError(f"more than {MOST_EXTENSIONS} headers of one file")
                    continue
                yield from self._of_any_kind(info, extensions, tars)
                extensions = []
            if not self._skip_zeros():
                return
            tars += 1

    def read(self, most: int | None = None) -> bytes:
        """The bytes of the member that came last, or the first ones; once.

        They all go into memory: `size` says how many there are. Raises tarfile.ReadError.
        """
        size = self._at.size if most is None else min(most, self._at.size)
        return self._exactly(size, self._at.name)

    def finish(self) -> tuple[str, int]:
        """Read on to the end of a hashed file; its SHA-256 and size."""
        while self._read(CHUNK):
            pass
        return self._sha256.hexdigest() if self._sha256 else "", self._position

    def _of_any_kind(
        self, info: tarfile.TarInfo, extensions: list[dict[str, str]], tars: int
    ) -> Iterator[Entry]:
        """A member, its bytes passed over when the next one is asked for."""
        said: dict[str, str] = {}
        for extension in extensions:  # as tarfile, which lets the first one have the last word
            said = extension | said
        longer = said.get("GNU.sparse.name") or said.get("path")
        name = info.name if longer is None else longer.rstrip("/")  # a folder's may end with one
        size = _size(said.get("size", str(info.size)), name)
        kind = bytes(info.type)
        if any(word.startswith("GNU.sparse.") for word in said):
            kind = tarfile.GNUTYPE_SPARSE
        elif kind == tarfile.GNUTYPE_SPARSE:
            self._skip_sparse_map()
        self._at = Entry(name, size, self._position, kind, tars)
        yield self._at
        if info.isreg() or info.type not in tarfile.SUPPORTED_TYPES:
            self._skip_to(self._at.begin + padded(size), name)

    def _any_extension(self, info: tarfile.TarInfo) -> dict[str, str]:
        if info.type in _PAX:
            return self._extension(info.size)
        data = self._extension_bytes(info.size)
        if info.type != tarfile.GNUTYPE_LONGNAME:
            return {}
        return {"path": data.partition(b"\0")[0].decode(errors="surrogateescape")}

    def _skip_sparse_map(self) -> None:
        """The rest of an old sparse file's map, whose first part is in the header just read."""
        more = self._block[482]
        while more:
            more = self._exactly(tarfile.BLOCKSIZE, "a sparse file's map")[504]

    def _skip_zeros(self) -> bool:
        """Whether anything but zeros follows; the position is there then."""
        while data := self._read(CHUNK):
            if left := len(data.lstrip(b"\0")):
                self._position = self._file.seek(self._position - left)
                return True
        return False

    def _header(self, *, last: bool = False) -> tarfile.TarInfo | None:
        """The next header; None at the block of zeros that ends a tar, and, where it may be the
        `last`, at the end of the file."""
        begin = self._position
        block = self._read(tarfile.BLOCKSIZE) if last else b""
        if last and not block.strip(b"\0"):
            return None
        block += self._exactly(tarfile.BLOCKSIZE - len(block), "a header")
        if not block.strip(b"\0"):
            return None
        self._block = block
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as bad:
            raise tarfile.ReadError(f"damaged header at byte {begin}: {bad}") from bad

    def _extension_bytes(self, size: int) -> bytes:
        if not 0 <= size <= LARGEST_EXTENSION:
            raise tarfile.ReadError(f"extended header of {size} bytes")
        return self._exactly(padded(size), "an extended header")[:size]

    def _extension(self, size: int) -> dict[str, str]:
        """The records "LENGTH KEY=VALUE\\n" of a PAX header, LENGTH counting all of the record."""
        data = self._extension_bytes(size)
        found = {}
        while data:
            digits = data.partition(b" ")[0]
            end = int(digits) if digits.isdigit() and len(digits) <= 6 else 0
            name, equals, value = data[len(digits) + 1 : max(end - 1, 0)].partition(b"=")
            if not equals or end > len(data) or data[end - 1 : end] != b"\n":
                raise tarfile.ReadError("damaged extended header")
            found[name.decode(errors="replace")] = value.decode(errors="surrogateescape")
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
        if self._end is not None:
            if position > self._end:
                raise tarfile.ReadError(f"the file ends within {name}")
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
