"""One actor of the line's pools: samples through its stages, with their story in the log.

Ends a worker whose sample hangs or eats memory: it becomes a dead worker like any other.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datapipe.errors import UserError
from datapipe.gpu import busy
from datapipe.record import Sample
from datapipe.stage import Stage, apply

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


class Worker:
    """One actor of a pool: runs its stages on each sample of a block."""

    def __init__(
        self, stages: Sequence[Stage], pace: Any, slots: int, last: bool, bounds: Bounds
    ) -> None:
        import ray

        self.stages, self.pace = stages, pace
        self.mark, self.marked = (ray.get_runtime_context().get_actor_id(), slots, last), 0.0
        self.locks: list[AbstractContextManager[Any]] = [
            nullcontext() if stage.resources.threads > 1 else _Turn(stage) for stage in stages
        ]
        self.failure = ""
        self.on_gpu = any(stage.resources.num_gpus for stage in stages)
        self.id = ray.get_runtime_context().get_worker_id()
        try:
            for stage in stages:
                stage.setup()
        except UserError as wrong:  # told through the rows: Ray would bury it in its own error
            self.failure = str(wrong)
        except Exception:  # noqa: BLE001 - and would try the same again for ever
            self.failure = f"the line could not be set up:\n{traceback.format_exc()}"
        self.watch = Watch(
            bounds, lambda keys, why: ray.wait([pace.ended.remote(keys, why)], timeout=5)
        )
        self.ready = time.monotonic()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if self.mark[-1] or time.monotonic() - self.marked > 60:  # before the last: a sign of life
            self.pace.started.remote(row["number"], *self.mark)
            self.marked = time.monotonic()
        failure = row["failure"] or self.failure
        if failure:
            return {**row, "failure": failure}
        try:
            done = [self._through(sample) for sample in pickle.loads(row["samples"])]
        except UserError as wrong:
            return {**row, "failure": str(wrong)}
        done_row = {**row, "samples": pickle.dumps(done)}
        if self.on_gpu:
            held = time.monotonic() - self.ready
            done_row["gpu"] = pickle.dumps((self.id, busy.seconds(), held))
        return done_row

    def _through(self, sample: Sample) -> Sample:
        with self.watch.over(sample.key):
            for stage, lock in zip(self.stages, self.locks, strict=True):
                with lock:
                    sample = apply(stage, sample)
        log.info("left the worker", extra=_told(sample))
        return sample


class _Turn(AbstractContextManager[None]):
    """One sample at a time in a stage; of a stage on a GPU, the GPU counts as busy meanwhile."""

    def __init__(self, stage: Stage) -> None:
        self._lock = threading.Lock()
        self._busy = busy if stage.resources.num_gpus else nullcontext()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._busy.__enter__()

    def __exit__(self, *_: object) -> None:
        self._busy.__exit__(None, None, None)
        self._lock.release()


def _told(sample: Sample) -> dict[str, Any]:
    """What the log says of a sample."""
    told = {"key": sample.key, "outcome": sample.outcome, "seconds": dict(sample.seconds)}
    return told | (asdict(sample.stopped) if sample.stopped else {})
