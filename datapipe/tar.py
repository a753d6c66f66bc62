"""Tars whose bytes depend on nothing but their members."""

from __future__ import annotations

import io
import tarfile
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
