"""The line on Ray Data, or in this process: samples in, finished samples out, in any order."""

from __future__ import annotations

import os
import pickle
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from typing import Any, Protocol

from datapipe.errors import UserError
from datapipe.line.sizing import plan_pools
from datapipe.record import Sample
from datapipe.stage import Stage, apply

RETRIES = 1
"""How often Ray runs a sample again whose worker died; the last try is made apart (see `retry`)."""

Listing = Callable[[], Iterable[Sample]]
"""Picklable; lists the samples to do, the same ones each time it is called."""


class Line(Protocol):
    """Runs the stages over a listing."""

    def run(self, listing: Listing) -> Iterator[Sample]:
        """Every sample of the listing that was not lost with its worker, in any order."""

    def retry(self, listing: Listing) -> Iterator[Sample]:
        """The last try for lost samples."""


class LocalLine:
    """The line in this process, one sample after the other: for debugging, and as the oracle."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = stages

    def run(self, listing: Listing) -> Iterator[Sample]:
        for stage in self.stages:
            stage.setup()
        for sample in listing():
            yield _through(self.stages, sample)

    def retry(self, listing: Listing) -> Iterator[Sample]:
        return self.run(listing)


class RayLine:
    """The line on a Ray cluster: actor pools (see `datapipe.line.sizing`), one sample per block.

    A block is Ray's unit of retry and of loss, hence one sample each. A block whose worker died
    too often is dropped by Ray without a trace: the caller finds the missing keys and hands them
    to `retry`.
    """

    def __init__(
        self, stages: Sequence[Stage], address: str | None = None, workers: int | None = None
    ) -> None:
        """Connect to `address`, to the cluster this process runs in, or start a local one."""
        import ray

        if not ray.is_initialized():
            # "local" by name: without it Ray tries the address file of a cluster long dead first
            where = address or os.environ.get("RAY_ADDRESS", "local")
            ray.init(
                address=where, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
            )
        resources = ray.cluster_resources()
        self.pools = plan_pools(
            stages, resources.get("CPU", 0.0), resources.get("GPU", 0.0), workers
        )

    def run(self, listing: Listing) -> Iterator[Sample]:
        """Every sample that was not lost with its worker."""
        return self._stream(listing, RETRIES, in_flight=2)

    def retry(self, listing: Listing) -> Iterator[Sample]:
        """The last try for lost samples: no retries, and no other sample waits at the worker."""
        return self._stream(listing, 0, in_flight=1)

    def _stream(self, listing: Listing, retries: int, in_flight: int) -> Iterator[Sample]:
        import ray
        from ray.data import ActorPoolStrategy

        from datapipe.line.ray_source import CorpusSource

        _configure()
        dataset = ray.data.read_datasource(
            CorpusSource(listing),
            override_num_blocks=1,
            num_cpus=0,  # the actors hold all CPUs: a listing that asks for some may never start
        )
        for pool in self.pools:
            with warnings.catch_warnings():
                # Ray 2.60 has no named parameter for this yet, hence the bound ray<2.64
                warnings.filterwarnings("ignore", message=".*ray_remote_args.*")
                dataset = dataset.map(
                    Worker,
                    fn_constructor_args=(pool.stages,),
                    compute=ActorPoolStrategy(
                        size=pool.workers, max_tasks_in_flight_per_actor=in_flight
                    ),
                    num_cpus=pool.resources.num_cpus or None,
                    num_gpus=pool.resources.num_gpus or None,
                    max_task_retries=retries,
                )
        for batch in dataset.iter_batches(
            batch_size=None, prefetch_batches=0, batch_format="pyarrow"
        ):
            for failure, data in zip(
                batch["failure"].to_pylist(), batch["sample"].to_pylist(), strict=True
            ):
                if failure:
                    raise UserError(failure)
                yield pickle.loads(data)


class Worker:
    """One actor of a pool: runs its stages on each sample."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = stages
        self.failure = ""
        try:
            for stage in stages:
                stage.setup()
        except UserError as wrong:  # told through the rows: Ray would bury it in its own error
            self.failure = str(wrong)
        except Exception:  # noqa: BLE001 - and would try the same again for ever
            self.failure = f"the line could not be set up:\n{traceback.format_exc()}"

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        failure = row["failure"] or self.failure
        if failure:
            return {"failure": failure, "sample": row["sample"]}
        try:
            sample = _through(self.stages, pickle.loads(row["sample"]))
        except UserError as wrong:
            return {"failure": str(wrong), "sample": row["sample"]}
        return {"failure": "", "sample": pickle.dumps(sample)}


def _through(stages: Sequence[Stage], sample: Sample) -> Sample:
    return reduce(lambda done, stage: apply(stage, done), stages, sample)


def _configure() -> None:
    """Ray Data's settings for the line; each is measured or read in Ray 2.60."""
    import logging

    import ray

    context = ray.data.DataContext.get_current()
    context.target_max_block_size = 1  # bytes: so that blocks are never merged
    context.target_min_block_size = 1
    context.max_errored_blocks = -1  # a dropped block is found by its missing key
    context.execution_no_progress_timeout_s = -1  # slow samples are not a fault
    context.enable_progress_bars = False
    context.execution_options.preserve_order = False  # one slow sample must not hold up the rest
    # what Ray would log as errors, lost blocks, becomes rows of the ledger
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
