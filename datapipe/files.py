"""Files, local or on any fsspec file system.

A `Folder` is what this project writes to: files appear in it whole or not at all. A `Place` is a
path that a user or a corpus names, and is only read.
"""

from __future__ import annotations

import errno
import glob
import os
import posixpath
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast
from urllib.parse import unquote

from fsspec.implementations.local import LocalFileSystem

from datapipe.errors import UserError
from datapipe.stores import denied, open_object, open_store, user_store, with_retries

_BLOCK = 4 << 20
"""Bytes that one request to an object store reads of a file."""
_FIRST_LOOK = 10.0
"""Seconds for which a store is asked about a path that nobody has seen yet."""
_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
_PATH_ERRORS = {
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
}


def is_about_the_path(fault: OSError) -> bool:
    """Whether a local file is to blame, and not its disk or the machine: those end the work."""
    return fault.errno in _PATH_ERRORS


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
        fs, root = user_store(self.url)
        return fs, root.rstrip("/")

    def __getstate__(self) -> dict[str, str]:
        return {"url": self.url}  # each process opens the store itself, as `user_store` does

    def _ask(self, ask: Callable[..., Any], name: str, *args: Any, **named: Any) -> Any:
        """The answer to a repeatable request about a file.

        Raises as `datapipe.stores.with_retries` does, and UserError where access is denied.
        """
        if self.local is not None:
            return ask(*args, **named)
        try:
            return with_retries(f"{self.url}/{name}", ask, *args, **named)
        except PermissionError as fault:
            raise denied(f"{self.url}/{name}", fault) from fault

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
        """A folder in this one. Raises ValueError outside."""
        self.path(name)
        return Folder(f"{self.url}/{name}")

    def exists(self, name: str) -> bool:
        """Whether there is a file or a folder of that name."""
        return bool(self._ask(self.fs.exists, name, self.path(name)))

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError, also where the folder is a file."""
        try:
            return cast(bytes, self._ask(self.fs.cat_file, name, self.path(name)))
        except NotADirectoryError as wrong:
            raise FileNotFoundError(f"{self.url} is a file, not a folder") from wrong

    def read_text(self, name: str) -> str:
        """Raises FileNotFoundError, and UnicodeDecodeError for what is not UTF-8."""
        return self.read(name).decode()

    def size(self, name: str) -> int:
        """Bytes. Raises FileNotFoundError."""
        return int(self._ask(self.fs.size, name, self.path(name)))

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file to a local path. Raises FileNotFoundError."""
        self._ask(self.fs.get_file, name, self.path(name), str(path))

    def open(self, name: str) -> IO[bytes]:
        """Read from a file, from any place in it. Raises FileNotFoundError."""
        if self.local is not None:
            return cast("IO[bytes]", self.fs.open(self.path(name), "rb"))
        where = f"{self.url}/{name}"
        return cast(
            "IO[bytes]", self._ask(open_object, name, self.fs, self.path(name), where, _BLOCK)
        )

    def put(self, name: str, data: bytes) -> None:
        """Write a file; readers see the old content or the new, never a part.

        Raises UserError where nothing can be written.
        """
        if self.local is None:
            self._send(self.fs.pipe_file, name, self.path(name), data)
            return
        with self.create(name) as file:
            file.write(data)

    def put_new(self, name: str, data: bytes) -> bool:
        """Write a file that nobody has written: False, and no change, if other content is there.

        On an object store one conditional put decides between writers. A disk knows no such put:
        there the last of two writers wins.
        """
        if self.local is not None:
            self.put(name, data)
            return True
        try:
            self._send(self.fs.pipe_file, name, self.path(name), data, mode="create")
        except FileExistsError:  # perhaps by this very request, whose answer was lost
            with suppress(FileNotFoundError):  # deleted since
                return self.read(name) == data
            return False
        return True

    def _send(self, send: Callable[..., Any], name: str, *args: Any, **named: Any) -> None:
        try:
            self._ask(send, name, *args, **named)
        except FileNotFoundError as missing:
            raise UserError(f"{self.url}: {missing}. Make the bucket, or name another") from missing

    @contextmanager
    def create(self, name: str) -> Iterator[IO[bytes]]:
        """A file that appears when the block ends, and not at all when it raises.

        Raises UserError where nothing can be written.
        """
        target = self.path(name)
        if self.local is None:
            with self._create_remote(name, target) as file:
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
    def _create_remote(self, name: str, target: str) -> Iterator[IO[bytes]]:
        # through a local file: not every store can take back an upload that has begun
        with tempfile.NamedTemporaryFile(prefix="harmoview-") as file:
            yield cast("IO[bytes]", file)
            file.flush()
            self._send(self.fs.put_file, name, file.name, target)

    def names(self, pattern: str) -> list[str]:
        """The names that match a glob, sorted; unfinished files have none."""
        return list(self.sizes(pattern))

    def sizes(self, pattern: str) -> dict[str, int]:
        """The same names, with their bytes."""
        prefix = len(self._fs_root[1]) + 1
        where = f"{glob.escape(self._fs_root[1])}/{pattern}"
        found = self._ask(self.fs.glob, pattern, where, detail=True)
        return {
            str(path)[prefix:]: int(info["size"])
            for path, info in sorted(found.items())
            if not PurePosixPath(str(path)).name.startswith(".")
        }

    def delete(self, name: str) -> None:
        """Delete a file if there is one."""
        path = self.path(name)
        if self._ask(self.fs.exists, name, path):
            with suppress(FileNotFoundError):  # a first try had done it
                self._ask(self.fs.rm_file, name, path)


@dataclass(frozen=True, slots=True)
class Place:
    """A path on a file system, written as the file system wants it."""

    fs: Any
    """An fsspec file system, or None for local files, which `os` reads faster."""
    path: str

    @property
    def url(self) -> str:
        """The path as a worker on another machine, in another folder, can open it."""
        return self.path if self.fs is None else str(self.fs.unstrip_protocol(self.path))

    @property
    def _on_the_web(self) -> bool:
        return self.path.startswith(("http://", "https://"))

    @property
    def name(self) -> str:
        """The last part of the path."""
        return posixpath.basename(self.path)

    @property
    def parent(self) -> Place:
        return Place(self.fs, posixpath.dirname(self.path))

    def join(self, relative: str) -> Place:
        return Place(self.fs, posixpath.join(self.path, relative))

    def is_dir(self) -> bool:
        return Path(self.path).is_dir() if self.fs is None else bool(self._look(self.fs.isdir))

    def is_file(self) -> bool:
        return Path(self.path).is_file() if self.fs is None else bool(self._look(self.fs.isfile))

    def file_paths(self) -> list[str]:
        """The paths of the files directly in this folder; none where there is no such folder."""
        if not self.is_dir():
            return []
        if self.fs is None:
            return [entry.path for entry in os.scandir(self.path) if entry.is_file()]
        found = self.ask(self.fs.ls, detail=True)
        return [str(info["name"]) for info in found if info["type"] == "file"]

    def ask(self, ask: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """The store's answer to a repeatable request about this path; raises as `with_retries`.

        Hosts on the web are asked once: each is one of many, and most that are away stay away.
        """
        if self._on_the_web:
            return ask(self.path, *args, **named)
        return with_retries(self.url, ask, self.path, *args, **named)

    def _look(self, ask: Callable[..., Any]) -> Any:
        """Ask about a path for the first time: most likely it is wrong, so not for long."""
        return self.ask(ask, patience=_FIRST_LOOK) if not self._on_the_web else ask(self.path)

    def open(self, block_size: int = _BLOCK) -> IO[bytes]:
        """Read from it; `block_size` is how many bytes one request to an object store fetches.

        Raises OSError where it cannot be opened, UserError where its store stays away.
        """
        if self.fs is None:
            return Path(self.path).open("rb")
        if self._on_the_web:
            return cast("IO[bytes]", self.fs.open(self.path, "rb", block_size=block_size))
        return open_object(self.fs, self.path, self.url, block_size)


_FILE_URL = re.compile(r"file:(?://(?:localhost)?)?(?=/)")


def local_path(url: str) -> str | None:
    """The path that a `file:` URL names; None for anything else.

    Programs disagree on whether such a URL escapes a space as %20: a path that exists as it is
    written is that path.
    """
    scheme = _FILE_URL.match(url)
    if scheme is None:
        return None
    path = url[scheme.end() :]
    return path if "%" not in path or os.path.lexists(path) else unquote(path)


def place(url: str) -> Place:
    """The place that a corpus names.

    Raises ValueError for an unknown scheme, RuntimeError for an unknown `~user`, ImportError for a
    kind of store whose package is missing.
    """
    return _place(url, open_store)


def user_place(url: str) -> Place:
    """The place that a user names. Raises UserError."""
    try:
        return _place(url, user_store)
    except (ValueError, RuntimeError) as wrong:
        raise UserError(f"{url}: {wrong}. Give another path") from wrong


def _place(url: str, opened: Callable[[str], tuple[Any, str]]) -> Place:
    if (local := local_path(url)) is not None:
        return Place(None, local.rstrip("/") or "/")
    if "://" not in url:  # fsspec would see a chain of file systems in "a::b.mp4"
        return Place(None, str(Path(url).expanduser().absolute()))
    fs, path = opened(url)
    return Place(None if isinstance(fs, LocalFileSystem) else fs, path.rstrip("/") or "/")
