"""A stage of the line: one sample in, one out.

`apply` turns errors into rows. What a stage does on a GPU it does within `gpu_busy` or `GpuTurns`,
so that it is known how long a process has its GPU at work, and how long its threads wait for it.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from datapipe.errors import BadSample, SampleError, UserError
from datapipe.record import Image, Reference, Sample

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Resources:
    """What one worker of a stage holds: GPU stages name only GPUs, CPU stages only CPUs.

    `num_cpus` is also the stage's weight when the CPUs are divided (see `datapipe.line.cluster`).
    """

    num_cpus: float = 0.0
    num_gpus: float = 0.0
    threads: int = 1
    """Samples that a worker has in hand at once; above 1 the stage must be safe in threads."""


class Stage(Protocol):
    """Built on the driver (cheap, picklable), loaded by `setup` on the worker."""

    name: str
    resources: Resources

    def setup(self) -> None:
        """Load models. Raises UserError when one is missing or unusable."""

    def __call__(self, sample: Sample) -> Sample:
        """The sample one step further. Raises BadSample when it is not fit for use."""


class ViewSynthesizer(Protocol):
    """Makes the views of a reference. Every engine (mesh, FLUX) is one of these."""

    name: str

    def setup(self) -> None:
        """Load weights on the worker. Raises UserError when a file is missing."""

    def provenance(self) -> dict[str, object]:
        """What made the views: weights and adapter by hash, settings, library versions.

        Known before `setup`, free of paths and times: it is part of the run's settings hash.
        """

    def __call__(self, reference: Image, yaws: Sequence[int], seeds: Sequence[int]) -> list[Image]:
        """One square view for each yaw. Raises BadSample("engine_refused", …).

        What is done on a GPU is done within `gpu_busy` or `GpuTurns`, for the metrics.
        """


MeritOfViews = Callable[[Mapping[int, Image]], dict[int, float]]
"""Views by yaw to the merit of each: 1 or more where it passes; a better view has more."""


class ViewJudge(Protocol):
    """Says of fresh views which an engine had better try again; threads take turns."""

    def setup(self) -> None:
        """Load on the worker. Raises UserError when a file is missing."""

    def __call__(self, reference: Reference, portrait: Image) -> MeritOfViews:
        """Look at a reference once; what it returns judges every attempt at its views."""


def apply(stage: Stage, sample: Sample) -> Sample:
    """Run a stage on a sample; the only place where an unexpected exception becomes a row.

    Raises UserError, which concerns the run and not the sample: a full disk, say.
    """
    if sample.stopped is not None:
        return sample
    log.info("stage begins", extra={"key": sample.key, "stage": stage.name})
    begin, before = time.perf_counter(), gpu_waited.seconds
    try:
        done = stage(sample)
    except BadSample as bad:
        done = sample.stop("rejected", bad.reason, bad.detail)
    except SampleError as known:
        done = sample.stop("error", known.reason, f"{stage.name}: {known}")
    except UserError:
        raise
    except (Exception, SystemExit):  # noqa: BLE001 - one sample must not stop a run; SystemExit hangs Ray Data
        done = sample.stop("error", "exception", f"{stage.name}: {traceback.format_exc()}")
    return done.spent(stage.name, time.perf_counter() - begin - (gpu_waited.seconds - before))


class BusyTime:
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


gpu_busy = BusyTime()
"""The clock of this process's GPU."""


class _Waited(threading.local):
    seconds = 0.0


gpu_waited = _Waited()
"""How long this thread has waited for its turns at the GPU. That is no work on its sample, so
`apply` does not count it."""


class GpuTurns:
    """Lets one thread at a time have the GPU at work."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()

    def __enter__(self) -> None:
        begin = self._clock()
        self._lock.acquire()
        gpu_waited.seconds += self._clock() - begin
        gpu_busy.__enter__()

    def __exit__(self, *_: object) -> None:
        gpu_busy.__exit__()
        self._lock.release()
