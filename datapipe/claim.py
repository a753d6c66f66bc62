"""Claiming a folder: for work of certain settings, and for one writer at a time.

A command checks its claim before it loads anything, and records it with the first work: a mistake
that shows in between has not bound the folder. One writer at a time is held to by a lock, on a disk
or an object store.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datapipe.errors import UserError
from datapipe.files import Folder


def leaves(tree: Mapping[Any, Any], separator: str = ".", prefix: str = "") -> dict[str, Any]:
    """Every value that is no mapping, by the names on the way to it; empty mappings have none."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found |= leaves(value, separator, f"{prefix}{name}{separator}")
        else:
            found[f"{prefix}{name}"] = value
    return found


_SHOWN = 80
"""Characters of a value in a message."""


@dataclass(frozen=True)
class Claim:
    """What a folder is to hold, and the file in it that says so."""

    folder: Folder
    file: str
    settings: Mapping[str, Any]
    """The command's own, by the names of its options with underscores."""
    may_change: Collection[str] = ()
    """Settings that may have other values when the work is continued."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """What else must agree, as hashes of what is worked on; may be nested."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of libraries; recorded only."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the command, as a settings file has them; recorded only."""

    def check(self) -> bool:
        """Whether the folder holds such work already.

        Raises UserError when the work there is of other settings, naming each, or cannot be told.
        """
        if not self.is_recorded():
            return False
        try:
            found = json.loads(self.folder.read(self.file))
            there = {**self._options(found["settings"]), **found["inputs"]}
        except (ValueError, KeyError, TypeError, AttributeError) as wrong:
            path = self.folder.path(self.file)
            raise UserError(f"{path} is damaged ({wrong!r}); give another --out") from wrong
        check_same(self.folder, there, {**self._options(self.settings), **self.inputs})
        return True

    def is_recorded(self) -> bool:
        """Whether some work has begun in the folder, of these settings or others."""
        return self.folder.exists(self.file)

    def record(self) -> None:
        """Write the file that `check` reads."""
        names = ("settings", "inputs", "versions", "options")
        record = {name: getattr(self, name) for name in names}
        self.folder.put(self.file, (json.dumps(record, indent=1, default=str) + "\n").encode())

    def _options(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that must agree, named as on the command line."""
        kept = {name: value for name, value in settings.items() if name not in self.may_change}
        return {f"--{name.replace('_', '-')}": value for name, value in kept.items()}


def check_same(
    folder: Folder,
    there: Mapping[str, Any],
    wanted: Mapping[str, Any],
    remedy: str = "use the settings it was made with, or give another --out",
) -> None:
    """Raises UserError naming each setting of the work in a folder that is not as `wanted`."""
    old, new = (leaves(json.loads(json.dumps(each, default=str))) for each in (there, wanted))
    differing = sorted(name for name in old | new if old.get(name) != new.get(name))
    if differing:
        lines = [
            f"  {name}: made with {old.get(name, 'nothing')!s:.{_SHOWN}}, "
            f"asked for {new.get(name, 'nothing')!s:.{_SHOWN}}"
            for name in differing
        ]
        raise UserError(
            "\n".join(
                [f"{folder.url} was made with other settings:", *lines, f"Instead, {remedy}."]
            )
        )


def check_not_foreign(folder: Folder, command: str, *own: str) -> None:
    """Raises UserError when a folder holds files, but none of those that are the command's own."""
    found = folder.names("*")
    if found and not set(own) & set(found):
        raise UserError(
            f"{folder.url} holds files that `harmoview {command}` did not write ({found[0]}, …); "
            "choose another --out"
        )


BEAT = 20.0
"""Seconds between the signs of life of a lock on an object store."""
STALE = 120.0
"""Seconds without one after which its holder counts as dead."""
LOOK = 1.0
"""Seconds between two looks at another's lock."""
SETTLE = 3.0
"""Seconds after which whoever took a lock over looks whether another did so too: the last one wins.
"""
_NAME = ".lock.json"
log = logging.getLogger(__name__)


@contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """Hold the folder for writing; a holder that is killed holds it no longer.

    On a disk the kernel lets go with the process. On an object store the lock is an object that is
    only created where there is none, and renewed while its holder lives; one that is not renewed is
    waited for and taken over. A holder that finds its lock taken over is stopped, as by Ctrl-C.
    Raises UserError then, when another process holds it, or when the folder cannot be written.
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
    token = uuid.uuid4().hex
    _take(folder, token)
    done, lost = threading.Event(), threading.Event()
    holder = threading.current_thread()

    def renew() -> None:
        while not done.wait(BEAT):
            with suppress(OSError, UserError):  # the store is away; so it is for any other
                if not _is_ours(folder, token):
                    lost.set()
                    _interrupt(holder)
                    break
                folder.put(_NAME, _content(token))

    keeper = threading.Thread(target=renew, daemon=True)
    keeper.start()
    try:
        try:
            yield
        finally:
            done.set()
            keeper.join()
            if not lost.is_set() and _is_ours(folder, token):
                folder.delete(_NAME)
    except KeyboardInterrupt:
        if not lost.is_set():
            raise
    if lost.is_set():
        raise UserError(
            f"{folder.url}: this process gave no sign of life for {STALE:g} s, so another took its "
            "lock over and works there now. If that one ends early, run this again: it continues"
        )


def _interrupt(thread: threading.Thread) -> None:
    """Stop a command as Ctrl-C does; one that ignores that learns of it when it is done."""
    if thread is threading.main_thread() and thread.ident is not None:
        signal.pthread_kill(thread.ident, signal.SIGINT)


def _take(folder: Folder, token: str) -> None:
    """Create the lock object, or take it over from a holder who gives no sign of life."""
    first, end = None, 0.0
    while not folder.put_new(_NAME, _content(token)):
        held = _held(folder)
        if held is None:  # let go just now
            continue
        if first is None:
            first, left = held, min(STALE, held["beat"] + STALE - time.time())
            end = time.monotonic() + left
            if left > 0:
                log.warning(
                    "%s is held by %s; unless that gives a sign of life, this takes over in %.0f s",
                    *(folder.url, held["holder"], left),
                )
        if held != first:
            raise _in_use(folder.url, held["holder"])
        if time.monotonic() >= end:
            folder.put(_NAME, _content(token))
            time.sleep(SETTLE)
            if not _is_ours(folder, token):
                raise _in_use(folder.url, "another process")
            return
        time.sleep(LOOK)


def _held(folder: Folder) -> dict[str, Any] | None:
    """The lock object, if there is one."""
    try:
        held: dict[str, Any] = json.loads(folder.read(_NAME))
    except FileNotFoundError:
        return None
    return held


def _is_ours(folder: Folder, token: str) -> bool:
    held = _held(folder)
    return held is not None and held["token"] == token


def _content(token: str) -> bytes:
    return json.dumps({"holder": _me(), "token": token, "beat": time.time()}).encode()


def _me() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _in_use(where: str, holder: str) -> UserError:
    return UserError(
        f"{where} is in use by {holder.strip() or 'another process'}; wait for it, or stop it, "
        "then run this again"
    )
