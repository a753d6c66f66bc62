"""A folder on any fsspec file system, in which files appear whole or not at all."""

from __future__ import annotations

import errno
import glob
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from datapipe.errors import UserError

_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


class Folder:
    """A local folder or an object-store prefix. Names are relative, with forward slashes."""

    def __init__(self, url: str | Path) -> None:
        # absolute: workers on a cluster have another working directory
        text = str(url)
        self.url = text.rstrip("/") if "://" in text else os.path.abspath(text)  # noqa: PTH100

    def __repr__(self) -> str:
        return f"Folder({self.url!r})"

    @cached_property
    def _fs_root(self) -> tuple[Any, str]:
        try:
            fs, root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as wrong:
            raise UserError(f"{self.url}: {wrong}") from wrong
        return fs, str(root).rstrip("/")

    @property
    def fs(self) -> Any:
        """The fsspec file system; its type comes without annotations."""
        return self._fs_root[0]

    @property
    def local(self) -> Path | None:
        """The folder as a local path, or None on an object store."""
        return Path(self._fs_root[1]) if isinstance(self.fs, LocalFileSystem) else None

    def path(self, name: str) -> str:
        """The full path of a file, as the file system wants it. Raises ValueError outside."""
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise ValueError(f"{name!r} is not a name inside {self.url}")
        return f"{self._fs_root[1]}/{name}"

    def folder(self, name: str) -> Folder:
        self.path(name)
        return Folder(f"{self.url}/{name}")

    def exists(self, name: str) -> bool:
        return bool(self.fs.exists(self.path(name)))

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError."""
        return cast(bytes, self.fs.cat_file(self.path(name)))

    def read_text(self, name: str) -> str:
        return self.read(name).decode()

    def open(self, name: str) -> IO[bytes]:
        return cast("IO[bytes]", self.fs.open(self.path(name), "rb"))

    def put(self, name: str, data: bytes) -> None:
        """Write a file; readers see the old content or the new, never a part."""
        if self.local is None:
            self.fs.pipe_file(self.path(name), data)
            return
        with self.create(name) as file:
            file.write(data)

    @contextmanager
    def create(self, name: str) -> Iterator[IO[bytes]]:
        """A file that appears when the block ends, and not at all when it raises."""
        target = self.path(name)
        if self.local is None:
            with self._create_remote(target) as file:
                yield file
            return
        path = Path(target)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as wrong:
            if wrong.errno in _CANNOT_WRITE:
                raise UserError(
                    f"cannot write {path}: {wrong.strerror}; mend that and run the same command "
                    "again: it continues"
                ) from wrong
            raise
        finally:
            if path.parent.is_dir():
                temporary.unlink(missing_ok=True)

    @contextmanager
    def _create_remote(self, target: str) -> Iterator[IO[bytes]]:
        # through a local file: not every store can take back an upload that has begun
        with tempfile.NamedTemporaryFile(prefix="harmoview-") as file:
            yield cast("IO[bytes]", file)
            file.flush()
            self.fs.put_file(file.name, target)

    def names(self, pattern: str) -> list[str]:
        """Names that match a glob, sorted, without unfinished files."""
        self.fs.invalidate_cache()
        prefix = len(self._fs_root[1]) + 1
        found = self.fs.glob(f"{glob.escape(self._fs_root[1])}/{pattern}")
        return sorted(
            name[prefix:]
            for name in map(str, found)
            if not PurePosixPath(name).name.startswith(".")
        )

    def delete(self, name: str) -> None:
        """Delete a file if it exists."""
        path = self.path(name)
        if self.fs.exists(path):
            self.fs.rm_file(path)
