"""The line on Ray Data, or in this process: samples in, finished samples out, in any order."""

from __future__ import annotations

import pickle
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import reduce
from typing import Any, Protocol

from datapipe.errors import UserError
from datapipe.line.pace import MOST, Pace
from datapipe.line.watch import Bounds, Watch
from datapipe.record import Sample
from datapipe.stage import Stage, apply

RETRIES = 1
"""How often Ray runs a block again whose worker died; the last try is made apart (see `retry`)."""

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


class LocalLine:
    """The line in this process, one sample after the other: for debugging, and as the oracle."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = stages
        self.ended: dict[str, str] = {}

    def run(self, listing: Listing) -> Iterator[Sample]:
        for stage in self.stages:
            stage.setup()
        for sample in listing():
            yield reduce(lambda done, stage: apply(stage, done), self.stages, sample)

    def retry(self, listing: Listing) -> Iterator[Sample]:
        return self.run(listing)


class RayLine:
    """The line on a Ray cluster: actor pools (see `datapipe.line.sizing`) that follow its size.

    A block, one row of Ray Data, holds a few samples: half a second of work (see
    `datapipe.line.pace`). It is Ray's unit of retry and of loss. A block whose worker died too
    often is dropped by Ray without a trace: the caller finds the missing keys and hands them to
    `retry`, where each sample is a block of its own.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        address: str | None = None,
        workers: int | None = None,
        wait: float = 45.0,
        bounds: Bounds | None = None,
    ) -> None:
        """Connect to `address`, to the cluster this process runs in, or start a local one.

        A worker whose sample takes more than `bounds` is ended. Raises UserError when the cluster
        lacks what a stage needs, after `wait` seconds in which nodes may join one that is not
        local.
        """
        from datapipe.line.cluster import LOCAL, connect, pools

        self.ended: dict[str, str] = {}
        self.bounds = bounds or Bounds()
        where = connect(address)
        self.pools = pools(stages, workers, 0.0 if where == LOCAL else wait)

    def run(self, listing: Listing) -> Iterator[Sample]:
        """Every sample that was not lost with its worker."""
        return self._stream(listing, RETRIES, MOST)

    def retry(self, listing: Listing) -> Iterator[Sample]:
        """The last try for lost samples: no retries, and no other sample waits at the worker."""
        return self._stream(listing, 0, 1)

    def _stream(self, listing: Listing, retries: int, most: int) -> Iterator[Sample]:
        import ray
        from ray.data import ActorPoolStrategy

        from datapipe.line.ray_source import CorpusSource

        _configure()
        # beside the driver, so that no other node's loss takes the listing away; without CPUs, as
        # the workers hold them all
        node = ray.get_runtime_context().get_node_id()
        beside = {"num_cpus": 0, "label_selector": {"ray.io/node-id": node}}
        pace = ray.remote(Pace).options(**beside, max_restarts=-1, max_task_retries=-1).remote(most)
        dataset = ray.data.read_datasource(
            CorpusSource(listing, pace), override_num_blocks=1, **beside
        )
        for pool in self.pools:
            threads = pool.resources.threads if retries else 1
            slots = threads + 1 if retries else 1
            bounds = replace(self.bounds, seconds=self.bounds.seconds * threads)
            if pool.resources.num_gpus:  # whose models may come by way of any amount of memory
                bounds = replace(bounds, gigabytes=float("inf"))
            with warnings.catch_warnings():
                # Ray 2.60 has no named parameter for this yet, hence the bound ray<2.64
                warnings.filterwarnings("ignore", message=".*ray_remote_args.*")
                dataset = dataset.map(
                    Worker,
                    fn_constructor_args=(pool.stages, pace, slots, pool is self.pools[-1], bounds),
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
        report = _Report(pace)
        for batch in dataset.iter_batches(
            batch_size=None, prefetch_batches=0, batch_format="pyarrow"
        ):
            for failure, data in zip(
                batch["failure"].to_pylist(), batch["samples"].to_pylist(), strict=True
            ):
                if failure:
                    raise UserError(failure)
                samples = pickle.loads(data)
                report.add(samples)
                yield from samples
        self.ended |= ray.get(pace.endings.remote())


class _Report:
    """Tells the pace what came out, now and then."""

    def __init__(self, pace: Any) -> None:
        self.pace = pace
        self.samples, self.seconds, self.last = 0, 0.0, 0.0

    def add(self, samples: Sequence[Sample]) -> None:
        self.samples += len(samples)
        self.seconds += sum(sum(sample.seconds.values()) for sample in samples)
        if time.monotonic() - self.last > 0.1:
            self.pace.finished.remote(self.samples, self.seconds)
            self.samples, self.seconds, self.last = 0, 0.0, time.monotonic()


class Worker:
    """One actor of a pool: runs its stages on each sample of a block."""

    def __init__(
        self, stages: Sequence[Stage], pace: Any, slots: int, last: bool, bounds: Bounds
    ) -> None:
        import ray

        self.stages, self.pace = stages, pace
        self.mark, self.marked = (ray.get_runtime_context().get_actor_id(), slots, last), 0.0
        self.locks: list[AbstractContextManager[Any]] = [
            nullcontext() if stage.resources.threads > 1 else threading.Lock() for stage in stages
        ]
        self.failure = ""
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
        return {**row, "samples": pickle.dumps(done)}

    def _through(self, sample: Sample) -> Sample:
        with self.watch.over(sample.key):
            for stage, lock in zip(self.stages, self.locks, strict=True):
                with lock:
                    sample = apply(stage, sample)
        return sample


def _configure() -> None:
    """Ray Data's settings for the line; each is measured or read in Ray 2.60."""
    import logging

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
