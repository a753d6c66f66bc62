"""A worker of the line's pools: takes samples through its stages, and tells their story in the log.

A sample that hangs or eats memory ends its worker, by the worker's own watchdog: so it becomes the
case that the line knows how to deal with, a dead worker.
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

from datapipe.errors import UserError, check_range
from datapipe.record import Sample
from datapipe.stage import GpuTurns, Stage, apply, gpu_busy

LOOK = 0.5
"""Seconds between two looks of a watchdog."""
GRACE = 60.0
"""Seconds that a watchdog may fail to get its turn beyond what a sample may take."""
SIGN_OF_LIFE = 60.0
"""Seconds after which a worker before the last pool tells again that it is there."""
_MEMORY = Path("/proc/self/statm")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SampleBounds:
    """What one sample may take of its worker."""

    seconds: float = 3600.0
    """Wall clock in all stages of the worker; longer by as many times as it has samples in hand."""
    gigabytes: float = 8.0
    """Memory of the whole worker while it has a sample in hand. Linux only."""

    def __post_init__(self) -> None:
        check_range(self, "seconds", "gigabytes", above=0, option="")


class LineWorker:
    """One actor of a pool: takes the samples of a block through its stages."""

    def __init__(
        self, stages: Sequence[Stage], sizer: Any, slots: int, last: bool, bounds: SampleBounds
    ) -> None:
        """`sizer` is the handle of a `datapipe.line.source.BlockSizer`, which hears of each block;
        `slots` is how many blocks Ray hands to this worker at once, `last` whether its pool is the
        line's last.
        """
        import ray

        context = ray.get_runtime_context()
        self.stages, self.sizer, self.last = stages, sizer, last
        self.actor, self.slots, self.told = context.get_actor_id(), slots, 0.0
        self.locks = [_turns(stage) for stage in stages]
        self.failure = ""
        self.on_gpu = any(stage.resources.num_gpus for stage in stages)
        self.id = context.get_worker_id()
        try:
            for stage in stages:
                stage.setup()
        except UserError as wrong:  # told through the rows: Ray would bury it in its own error
            self.failure = str(wrong)
        except Exception:  # noqa: BLE001 - and would try the same again for ever
            self.failure = f"the line could not be set up:\n{traceback.format_exc()}"
        self.watchdog = Watchdog(
            bounds, lambda keys, why: ray.wait([sizer.ended.remote(keys, why)], timeout=5)
        )
        self.ready = time.monotonic()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """A block with its samples as they are after these stages, or with what ends the run."""
        if self.last or time.monotonic() - self.told > SIGN_OF_LIFE:
            self.sizer.started.remote(row["number"], self.actor, self.slots, self.last)
            self.told = time.monotonic()
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
            done_row["gpu"] = pickle.dumps((self.id, gpu_busy.seconds(), held))
        return done_row

    def _through(self, sample: Sample) -> Sample:
        with self.watchdog.over(sample.key):
            for stage, lock in zip(self.stages, self.locks, strict=True):
                with lock:
                    sample = apply(stage, sample)
        told = {"key": sample.key, "outcome": sample.outcome, "seconds": dict(sample.seconds)}
        told |= asdict(sample.stopped) if sample.stopped else {}
        log.info("left the worker", extra=told)
        return sample


def _turns(stage: Stage) -> AbstractContextManager[Any]:
    """Lets one sample at a time into a stage, but for one that is made for threads; while a sample
    is in a stage on a GPU, the GPU counts as busy.
    """
    if stage.resources.threads > 1:
        return nullcontext()
    return GpuTurns() if stage.resources.num_gpus else threading.Lock()


class Watchdog:
    """A thread that ends this process when a sample takes too long or too much memory.

    It says whom it ends the process for, writes what every thread was doing to stderr, and kills:
    whatever hangs in native code would survive anything milder. Should it not get its turn, because
    native code holds Python's lock for ever, faulthandler's own thread ends the process.
    """

    def __init__(self, bounds: SampleBounds, tell: Callable[[Sequence[str], str], object]) -> None:
        """`tell(keys, reason)` hears of the samples, with `timed_out` or `out_of_memory`."""
        self._bounds, self._tell = bounds, tell
        self._begun: dict[str, float] = {}
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

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
            time.sleep(LOOK)
            begun, now = dict(self._begun), time.monotonic()
            late = [key for key, since in begun.items() if now - since > self._bounds.seconds]
            if late:
                self._end(late, "timed_out")
            if begun and _memory() > self._bounds.gigabytes * 2**30:
                self._end(list(begun), "out_of_memory")

    def _end(self, keys: Sequence[str], reason: str) -> None:
        log.error("this worker ends: %s with %s", reason, ", ".join(keys))
        faulthandler.dump_traceback(file=2)
        self._tell(keys, reason)
        os.kill(os.getpid(), signal.SIGKILL)


def _memory() -> int:
    """Bytes that this process has for itself, without what it shares (Ray's object store)."""
    try:
        _, resident, shared, *_ = map(int, _MEMORY.read_text().split())
    except FileNotFoundError:
        return 0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
