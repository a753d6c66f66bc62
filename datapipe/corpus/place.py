"""Where files are: a path, local or on any fsspec file system."""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from fsspec.implementations.local import LocalFileSystem

from datapipe.errors import UserError
from datapipe.stores import open_object, open_store, steadily, user_store

_BLOCK = 4 << 20
_FIRST_LOOK = 10.0
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
    """Whether a local file is to blame, not its disk or the machine: those end the work."""
    return fault.errno in _PATH_ERRORS


@dataclass(frozen=True, slots=True)
class Place:
    """A path on a file system, written as the file system wants it."""

    fs: Any
    """An fsspec file system, or None for local files, which `os` reads faster."""
    path: str

    @property
    def url(self) -> str:
        """What a worker on another machine, in another folder, can open."""
        return self.path if self.fs is None else str(self.fs.unstrip_protocol(self.path))

    @property
    def _on_the_web(self) -> bool:
        return self.path.startswith(("http://", "https://"))

    @property
    def name(self) -> str:
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
        """Of the files directly in this folder; none if it does not exist."""
        if not self.is_dir():
            return []
        if self.fs is None:
            return [entry.path for entry in os.scandir(self.path) if entry.is_file()]
        found = self.ask(self.fs.ls, detail=True)
        return [str(info["name"]) for info in found if info["type"] == "file"]

    def ask(self, ask: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """What the store says to a repeatable request about this path: `steadily`.

        Hosts on the web are asked once: each is one of many, and most that are away stay away.
        """
        if self._on_the_web:
            return ask(self.path, *args, **named)
        return steadily(self.url, ask, self.path, *args, **named)

    def _look(self, ask: Callable[..., Any]) -> Any:
        """For the first time: most likely the address is wrong, so not for long."""
        return self.ask(ask, patience=_FIRST_LOOK) if not self._on_the_web else ask(self.path)

    def open(self, block_size: int = _BLOCK) -> IO[bytes]:
        """Read from it; `block_size` is what one request to an object store fetches."""
        if self.fs is None:
            return Path(self.path).open("rb")
        if self._on_the_web:
            return cast("IO[bytes]", self.fs.open(self.path, "rb", block_size=block_size))
        return open_object(self.fs, self.path, self.url, block_size)


def place(url: str) -> Place:
    """Raises ValueError for an unknown scheme, RuntimeError for an unknown `~user`, ImportError."""
    return _place(url, open_store)


def user_place(url: str) -> Place:
    """The place a user named. Raises UserError."""
    try:
        return _place(url, user_store)
    except (ValueError, RuntimeError) as wrong:
        raise UserError(f"{url}: {wrong}. Give another path") from wrong


def _place(url: str, opened: Callable[[str], tuple[Any, str]]) -> Place:
    if "://" not in url:  # fsspec would see a chain of file systems in "a::b.mp4"
        return Place(None, str(Path(url).expanduser().absolute()))
    fs, path = opened(url)
    return Place(None if isinstance(fs, LocalFileSystem) else fs, path.rstrip("/") or "/")
