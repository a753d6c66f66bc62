"""How long this process has had its GPU at work."""

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
        """Until now."""
        with self._lock:
            return self._before + (self._clock() - self._since if self._inside else 0.0)


busy = Busy()
"""Of this process's GPU."""
