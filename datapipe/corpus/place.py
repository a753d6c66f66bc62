"""Where files are: a path, local or on any fsspec file system."""

from __future__ import annotations

import errno
import os
import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from datapipe.errors import UserError

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
    def name(self) -> str:
        return posixpath.basename(self.path)

    @property
    def parent(self) -> Place:
        return Place(self.fs, posixpath.dirname(self.path))

    def join(self, relative: str) -> Place:
        return Place(self.fs, posixpath.join(self.path, relative))

    def is_dir(self) -> bool:
        return Path(self.path).is_dir() if self.fs is None else bool(self.fs.isdir(self.path))

    def is_file(self) -> bool:
        return Path(self.path).is_file() if self.fs is None else bool(self.fs.isfile(self.path))

    def file_paths(self) -> list[str]:
        """Of the files directly in this folder; none if it does not exist."""
        if not self.is_dir():
            return []
        if self.fs is None:
            return [entry.path for entry in os.scandir(self.path) if entry.is_file()]
        found = self.fs.ls(self.path, detail=True)
        return [str(info["name"]) for info in found if info["type"] == "file"]

    def open(self, block_size: int | None = None) -> IO[bytes]:
        """Read from it; `block_size` is what one request to an object store fetches."""
        if self.fs is None:
            return Path(self.path).open("rb")
        return cast("IO[bytes]", self.fs.open(self.path, "rb", block_size=block_size))


def place(url: str) -> Place:
    """Raises ValueError for an unknown scheme, RuntimeError for an unknown `~user`, ImportError."""
    if "://" not in url:  # fsspec would see a chain of file systems in "a::b.mp4"
        return Place(None, str(Path(url).expanduser().absolute()))
    # Listings are walked once: keeping them would only cost memory, and hide new files.
    fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    return Place(None if isinstance(fs, LocalFileSystem) else fs, str(path).rstrip("/") or "/")


def user_place(url: str) -> Place:
    """The place a user named. Raises UserError."""
    try:
        return place(url)
    except ImportError as missing:
        hint = {"s3": "harmoview[s3]", "gs": "harmoview[gcs]"}.get(url.split("://")[0])
        todo = f"pip install '{hint}'" if hint else str(missing)
        raise UserError(f"{url}: this kind of storage needs one more package: {todo}") from missing
    except (ValueError, RuntimeError) as unknown:
        raise UserError(f"{url}: {unknown}. Use a local path, s3:// or gs://") from unknown
