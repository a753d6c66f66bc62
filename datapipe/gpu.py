"""How long this process has had its GPU at work, and how long its threads waited for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Busy:
    """Entered by whoever has the GPU at work; adds up the seconds in which anyone is inside."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._inside, self._since, self._before = 0, 0.0, 0.0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._since = self._clock()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._before += self._clock() - self._since

    def seconds(self) -> float:
        """The seconds until now."""
        with self._lock:
            return self._before + (self._clock() - self._since if self._inside else 0.0)


busy = Busy()
"""The clock of this process's GPU."""


class _Waited(threading.local):
    seconds = 0.0


waited = _Waited()
"""How long this thread has waited for its turns at the GPU. That is no work on its sample, so
`datapipe.stage.apply` does not count it."""


class Turns:
    """Lets one thread at a time have the GPU at work."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()

    def __enter__(self) -> None:
        begin = self._clock()
        self._lock.acquire()
        waited.seconds += self._clock() - begin
        busy.__enter__()

    def __exit__(self, *_: object) -> None:
        busy.__exit__()
        self._lock.release()
