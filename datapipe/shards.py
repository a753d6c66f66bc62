"""WebDataset shards: tars of whole samples, cut at limits, that appear complete or not at all."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import IO

from datapipe import tar
from datapipe.files import Folder


@dataclass(frozen=True, slots=True)
class Shard:
    """A finished shard, as the manifest lists it."""

    name: str
    sha256: str
    bytes: int
    samples: int


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a sample: `size` bytes, read from the start of `data`."""

    name: str
    size: int
    data: IO[bytes]

    @classmethod
    def of(cls, name: str, data: bytes) -> Member:
        """A file of these bytes."""
        return cls(name, len(data), io.BytesIO(data))

    def tar_size(self) -> int:
        """Bytes that it takes in a tar, header and padding included."""
        info = tarfile.TarInfo(self.name)
        info.size = self.size
        header = info.tobuf(tarfile.PAX_FORMAT)
        return len(header) + tar.padded(self.size)


class ShardWriter:
    """Writes samples one after the other, opening a new shard where one would pass a limit.

    A sample larger than `max_bytes` gets a shard of its own. Leaving the block by an exception
    leaves the finished shards and nothing of the unfinished one.
    """

    def __init__(
        self, folder: Folder, max_samples: int, max_bytes: int, finished: Sequence[Shard] = ()
    ) -> None:
        """Continues after the `finished` shards."""
        self.shards = list(finished)
        self._folder = folder
        self._max_samples = max_samples
        self._max_bytes = max_bytes
        self._current: _OpenShard | None = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._current is None:
            return
        if error is None:
            self.shards.append(self._current.finish())
        else:
            self._current.abandon(kind, error, trace)

    def write(self, members: Sequence[Member], samples: int = 1) -> None:
        """Append one sample, or several that stay together. Raises OSError when the folder cannot
        take it."""
        size = sum(member.tar_size() for member in members)
        if self._current is not None and (
            self._current.samples + samples > self._max_samples
            or self._current.size_with(size) > self._max_bytes
        ):
            self.shards.append(self._current.finish())
            self._current = None
        if self._current is None:
            self._current = _OpenShard(self._folder, f"{len(self.shards):06d}.tar")
        self._current.add(members, samples)


class _OpenShard:
    """The shard that is being written."""

    def __init__(self, folder: Folder, name: str) -> None:
        self.samples = 0
        self._name = name
        self._stack = ExitStack()
        self._file = _HashingFile(self._stack.enter_context(folder.create(name)))
        self._tar = tar.open_writer(self._file)  # type: ignore[arg-type]  # writes and tells only

    def add(self, members: Sequence[Member], samples: int) -> None:
        for member in members:
            tar.add(self._tar, member.name, member.data, member.size)
        self._tar.getmembers().clear()  # kept for listing; would grow with the shard
        self.samples += samples

    def size_with(self, more: int) -> int:
        """Bytes of the finished shard, were a sample of `more` bytes its last."""
        return tar.closed(self._file.tell() + more)

    def finish(self) -> Shard:
        self._tar.close()
        self._stack.close()
        return Shard(self._name, self._file.sha256.hexdigest(), self._file.tell(), self.samples)

    def abandon(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)


class _HashingFile:
    """Counts and hashes what is written through it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._position = 0
        self.sha256 = hashlib.sha256()

    def tell(self) -> int:
        return self._position

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self.sha256.update(data)
        self._position += len(data)
        return len(data)
