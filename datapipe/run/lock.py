"""One writer at a time in a folder, on a disk or an object store."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from datapipe.errors import UserError
from datapipe.files import Folder

BEAT = 20.0
"""Seconds between the signs of life of a lock on an object store."""
STALE = 120.0
"""Seconds without one after which its holder counts as dead."""
_NAME = ".lock.json"


@contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """Hold the folder for writing; a holder that is killed holds it no longer.

    On a disk the kernel lets go with the process. On an object store the lock is an object that is
    only created where there is none, and renewed while its holder lives.
    Raises UserError when another process holds it or the folder cannot be written.
    """
    local = folder.local
    with _on_store(folder) if local is None else _on_disk(local):
        yield


@contextmanager
def _on_disk(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as wrong:
        raise UserError(
            f"cannot write to {folder}: {wrong.strerror}; choose another --out"
        ) from wrong
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _in_use(str(folder), os.pread(file, 200, 0).decode(errors="replace")) from None
        except OSError as wrong:
            raise UserError(
                f"{folder}: its file system refuses locks ({wrong.strerror}); mount it with them "
                "(Lustre: -o flock), or choose another --out"
            ) from wrong
        os.ftruncate(file, 0)
        os.pwrite(file, _me().encode(), 0)
        yield
    finally:
        os.close(file)


@contextmanager
def _on_store(folder: Folder) -> Iterator[None]:
    _take(folder)
    done = threading.Event()

    def renew() -> None:
        while not done.wait(BEAT):
            with suppress(OSError, UserError):  # the store is away; so it is for any other
                folder.put(_NAME, _content())

    keeper = threading.Thread(target=renew, daemon=True)
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join()
        folder.delete(_NAME)


def _take(folder: Folder) -> None:
    """Create the lock object; one whose holder is dead is taken away first."""
    for _ in range(2):
        if folder.put_new(_NAME, _content()):
            return
        try:
            held = json.loads(folder.read(_NAME))
        except FileNotFoundError:  # let go just now
            continue
        if time.time() - held["beat"] < STALE:
            raise _in_use(folder.url, held["holder"])
        folder.delete(_NAME)
    raise _in_use(folder.url, "another process")


def _content() -> bytes:
    return json.dumps({"holder": _me(), "beat": time.time()}).encode()


def _me() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _in_use(where: str, holder: str) -> UserError:
    return UserError(
        f"{where} is in use by {holder.strip() or 'another process'}; wait for it, or stop it, "
        "then run this again"
    )
