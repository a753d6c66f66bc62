"""The line on Ray Data, or in this process: samples in, finished samples out, in any order."""

from __future__ import annotations

import gc
import io
import logging
import math
import os
import pickle
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import reduce
from typing import Any, Protocol

from datapipe.errors import UserError
from datapipe.line.cluster import LOCAL, Pool, connect, pools, worker_logs
from datapipe.line.metrics import LineMetrics
from datapipe.line.source import MOST, BlockSizer, corpus_source
from datapipe.line.worker import LineWorker, SampleBounds
from datapipe.record import Sample
from datapipe.stage import Stage, apply

STDERR = 2
_NOTE = r"\[[^]]* E \d+ \d+\] core_worker\.cc:\d+: Actor .* has constructor arguments"
_PASS_ON = """
import re, sys
note, out = re.compile(sys.argv[1].encode()), open(1, "wb", buffering=0)
for line in sys.stdin.buffer:
    if not note.match(line):
        out.write(line)
"""
_WAIT = 1.0
"""Seconds to wait for what is still in the pipe; a child process may hold it open."""


@contextmanager
def without_notes() -> Iterator[None]:
    """Within the block, a note that Ray writes about every pool is left out, but at level info.

    Ray's core calls it an error and writes it to file descriptor 2: a worker could not be started
    again if its arguments were lost. Ray Data, which makes the workers, holds them as long as it
    runs, so they are not. All else that is written there is passed on, by a process of its own, so
    that the last words of this one are too.
    """
    if logging.getLogger(__name__).isEnabledFor(logging.INFO):
        yield
        return
    terminal, (reader, writer) = os.dup(STDERR), os.pipe()
    passing = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _PASS_ON, _NOTE],
        stdin=reader, stdout=terminal, start_new_session=True,  # Ctrl-C is not for it
    )  # fmt: skip
    os.close(reader)
    os.dup2(writer, STDERR)
    os.close(writer)
    own, direct = sys.stderr, None
    if _is_stderr(own):  # stays a terminal, for bars
        direct = os.fdopen(
            os.dup(terminal), "w", buffering=1, encoding=own.encoding, errors="backslashreplace"
        )
        sys.stderr = direct
    try:
        yield
    finally:
        os.dup2(terminal, STDERR)
        os.close(terminal)
        if direct is not None:
            if sys.stderr is direct:  # a bar that has ended puts its own back
                sys.stderr = own
            direct.close()
        with suppress(subprocess.TimeoutExpired):
            passing.wait(_WAIT)


def _is_stderr(stream: object) -> bool:
    """Whether it writes to the descriptor, and not to a notebook or a test."""
    try:
        return stream is not None and getattr(stream, "fileno", io.StringIO().fileno)() == STDERR
    except (io.UnsupportedOperation, ValueError):
        return False


RETRIES = 1
"""How often Ray runs a block again whose worker died; the last try is made apart (see `retry`)."""
TELL = 0.1
"""Seconds between two reports of what came out."""

Listing = Callable[[], Iterable[Sample]]
"""Picklable; lists the samples to do, the same ones each time it is called."""


class Line(Protocol):
    """Runs the stages over a listing."""

    ended: dict[str, str]
    """Samples whose worker was ended on purpose, by key: `timed_out` or `out_of_memory`."""

    def run(self, listing: Listing) -> Iterator[Sample]:
        """Every sample of the listing that was not lost with its worker, in any order."""

    def retry(self, listing: Listing) -> Iterator[Sample]:
        """The last try for lost samples."""

    def count_lost(self, sample: Sample) -> None:
        """Count a sample that was lost for good among what came out."""

    def gpu_share(self) -> float | None:
        """Of the time in which workers held a GPU, how much it was at work; None without one."""


class LocalLine:
    """The line in this process, one sample after the other: to debug, and to compare Ray's with."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = stages
        self.ended: dict[str, str] = {}

    def run(self, listing: Listing) -> Iterator[Sample]:
        """Every sample. Raises UserError, which ends the run."""
        for stage in self.stages:
            stage.setup()
        for sample in listing():
            yield reduce(lambda done, stage: apply(stage, done), self.stages, sample)

    def retry(self, listing: Listing) -> Iterator[Sample]:
        """The same once more."""
        return self.run(listing)

    def count_lost(self, sample: Sample) -> None:
        """Raises RuntimeError."""
        raise RuntimeError("a line in this process loses no sample")

    def gpu_share(self) -> None:
        return None


class RayLine:
    """The line on a Ray cluster: actor pools (see `datapipe.line.cluster`) that follow its size.

    A block, one row of Ray Data, holds a few samples: half a second of work (see
    `datapipe.line.source`). It is Ray's unit of retry and of loss. A block whose worker died too
    often is dropped by Ray without a trace: the caller finds the missing keys and hands them to
    `retry`, where each sample is a block of its own.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        address: str | None = None,
        workers: int | None = None,
        wait: float = 45.0,
        bounds: SampleBounds | None = None,
        name: str = "",
    ) -> None:
        """Connect to `address`, to the cluster this process runs in, or start a local one.

        `workers` bounds the CPU workers of all pools together; without it there is one a CPU. A
        worker whose sample takes more than `bounds` is ended. The metrics name the run `name`.

        Raises UserError when the cluster lacks what a stage needs, after `wait` seconds in which
        nodes may join one that is not local.
        """
        self.ended: dict[str, str] = {}
        self.bounds = bounds or SampleBounds()
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        where = connect(address, job_config=worker_logs(), **quiet)
        self.pools = pools(stages, workers, 0.0 if where == LOCAL else wait)
        self.metrics = LineMetrics(name)

    def run(self, listing: Listing) -> Iterator[Sample]:
        """Every sample that was not lost with its worker. Raises UserError, which ends the run."""
        return self._stream(listing, RETRIES, MOST)

    def retry(self, listing: Listing) -> Iterator[Sample]:
        """The last try for lost samples: no retries, and no other sample waits at the worker."""
        return self._stream(listing, 0, 1)

    def count_lost(self, sample: Sample) -> None:
        self.metrics.add([sample])
        self.metrics.flush()

    def gpu_share(self) -> float | None:
        return self.metrics.gpu_share()

    def _stream(self, listing: Listing, retries: int, most: int) -> Iterator[Sample]:
        import ray

        _configure()
        # a worker that was starting again when the stream before this one ended is held in a cycle
        # of Ray Data's, and keeps its CPU from us until Python happens to collect it
        gc.collect()
        # beside the driver, so that no other node's loss takes the listing away; without CPUs, as
        # the workers hold them all
        node = ray.get_runtime_context().get_node_id()
        beside = {"num_cpus": 0, "label_selector": {"ray.io/node-id": node}}
        keep = {"max_restarts": -1, "max_task_retries": -1}
        sizer = ray.remote(BlockSizer).options(**beside, **keep).remote(most)
        source = corpus_source(listing, sizer)
        dataset = ray.data.read_datasource(source, override_num_blocks=1, **beside)
        for pool in self.pools:
            dataset = self._through(dataset, pool, sizer, retries)
        report = _Report(sizer, self.metrics)
        with without_notes():
            for batch in dataset.iter_batches(
                batch_size=None, prefetch_batches=0, batch_format="pyarrow"
            ):
                for row in batch.to_pylist():
                    if row["failure"]:
                        raise UserError(row["failure"])
                    samples = pickle.loads(row["samples"])
                    report.add(samples, row.get("gpu"))
                    yield from samples
        report.close()
        self.ended |= ray.get(sizer.endings.remote())

    def _through(self, dataset: Any, pool: Pool, sizer: Any, retries: int) -> Any:
        """The blocks of a dataset after the stages of a pool."""
        from ray.data import ActorPoolStrategy

        threads = pool.resources.threads if retries else 1
        slots = threads + 1 if retries else 1
        bounds = replace(self.bounds, seconds=self.bounds.seconds * threads)
        if pool.resources.num_gpus:  # whose models may come by way of any amount of memory
            bounds = replace(bounds, gigabytes=math.inf)
        with warnings.catch_warnings():
            # Ray 2.60 has no named parameter for max_task_retries yet, hence the bound ray<2.64
            warnings.filterwarnings("ignore", message=".*ray_remote_args.*")
            return dataset.map(
                # in Ray's dashboard and metrics the pool has its stages' names
                type("_".join(stage.name for stage in pool.stages), (LineWorker,), {}),
                fn_constructor_args=(pool.stages, sizer, slots, pool is self.pools[-1], bounds),
                compute=ActorPoolStrategy(
                    min_size=pool.least,
                    initial_size=pool.workers,
                    max_size=pool.most,
                    max_tasks_in_flight_per_actor=slots,
                    max_concurrent_calls_per_actor=threads,
                    enable_true_multi_threading=threads > 1,
                ),
                num_cpus=pool.resources.num_cpus,  # 0 for a GPU: unsaid, Ray starts it with 1
                num_gpus=pool.resources.num_gpus or None,
                max_task_retries=retries,
            )


class _Report:
    """Tells the block sizer and the metrics what came out, now and then."""

    def __init__(self, sizer: Any, metrics: LineMetrics) -> None:
        self.sizer, self.metrics = sizer, metrics
        self.samples, self.seconds, self.last = 0, 0.0, 0.0
        self.asked: list[Any] = []
        """The sizer's answer that is on its way."""

    def add(self, samples: Sequence[Sample], gpu: bytes | None) -> None:
        self.metrics.add(samples)
        if gpu:
            self.metrics.gpu(*pickle.loads(gpu))
        self.samples += len(samples)
        self.seconds += sum(sum(sample.seconds.values()) for sample in samples)
        if time.monotonic() - self.last > TELL:
            self._tell()

    def _tell(self) -> None:
        import ray

        self.last = time.monotonic()
        self.metrics.flush()
        answered, waiting = ray.wait(self.asked, timeout=0) if self.asked else ([], [])
        if answered:
            self.metrics.in_line(ray.get(answered[0]))
        if not waiting:
            self.asked = [self.sizer.finished.remote(self.samples, self.seconds)]
            self.samples, self.seconds = 0, 0.0

    def close(self) -> None:
        self.metrics.flush()
        self.metrics.in_line(0)


def _configure() -> None:
    """Ray Data's settings for the line; each is measured or read in Ray 2.60."""
    import ray

    context = ray.data.DataContext.get_current()
    context.target_max_block_size = 1  # bytes: so that rows are never merged
    context.target_min_block_size = 1
    context.max_errored_blocks = -1  # a dropped block is found by its missing keys
    context.execution_no_progress_timeout_s = -1  # slow samples are not a fault
    context.enable_progress_bars = False
    context.execution_options.preserve_order = False  # one slow sample must not hold up the rest
    # a pool whose workers all have one block waiting takes one more worker where there is room
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.25
    # what Ray would log as errors, lost blocks, becomes rows of the ledger
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
