"""One actor of the line's pools: samples through its stages, with their story in the log."""

from __future__ import annotations

import logging
import pickle
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

from datapipe.errors import UserError
from datapipe.gpu import busy
from datapipe.line.watch import Bounds, Watch
from datapipe.record import Sample
from datapipe.stage import Stage, apply

log = logging.getLogger(__name__)


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
