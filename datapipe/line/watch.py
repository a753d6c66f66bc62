"""Ends a worker whose sample hangs or eats memory: it becomes a dead worker like any other."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

EVERY = 0.5
"""Seconds between two looks."""
log = logging.getLogger(__name__)
GRACE = 60.0
"""Seconds that the watching thread may fail to get its turn beyond what a sample may take."""
_PAGES = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one sample may take of its worker."""

    seconds: float = 900.0
    """In all stages of the worker; longer by as many times as it has samples in hand."""
    gigabytes: float = 8.0
    """That a CPU worker may hold in all. Linux only."""

    def __post_init__(self) -> None:
        for name in ("seconds", "gigabytes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"sample {name} must be positive, not {getattr(self, name)}")


class Watch:
    """A thread beside the samples of this process.

    It says whom it ends the process for, writes what every thread was doing to stderr, and kills:
    whatever hangs in native code would survive anything milder. Should it not get its turn, because
    native code holds Python's lock for ever, faulthandler's own thread ends the process.
    """

    def __init__(self, bounds: Bounds, tell: Callable[[Sequence[str], str], None]) -> None:
        """`tell(keys, reason)` hears of the samples, with `timed_out` or `out_of_memory`."""
        self._bounds, self._tell = bounds, tell
        self._begun: dict[str, float] = {}
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    @contextmanager
    def over(self, key: str) -> Iterator[None]:
        """Around the work on one sample."""
        self._begun[key] = time.monotonic()
        try:
            yield
        finally:
            del self._begun[key]

    def _watch(self) -> None:
        while True:
            faulthandler.dump_traceback_later(self._bounds.seconds + GRACE, exit=True, file=2)
            time.sleep(EVERY)
            begun, now = dict(self._begun), time.monotonic()
            late = [key for key, since in begun.items() if now - since > self._bounds.seconds]
            if late:
                self._end(late, "timed_out")
            if begun and _held() > self._bounds.gigabytes * 2**30:
                self._end(list(begun), "out_of_memory")

    def _end(self, keys: Sequence[str], reason: str) -> None:
        log.error("this worker ends: %s with %s", reason, ", ".join(keys))
        faulthandler.dump_traceback(file=2)
        self._tell(keys, reason)
        os.kill(os.getpid(), signal.SIGKILL)


def _held() -> int:
    """Bytes that this process holds for itself, without what it shares (Ray's object store)."""
    try:
        _, resident, shared, *_ = map(int, _PAGES.read_text().split())
    except FileNotFoundError:
        return 0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
