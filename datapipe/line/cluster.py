"""The cluster that a line runs on: joining it, and what can be had of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from datapipe.errors import UserError
from datapipe.line.sizing import Pool, plan_pools
from datapipe.stage import Stage

T = TypeVar("T")
WAIT = 45.0
"""Seconds that GPUs may be neither there nor on their way, where no option says so."""
LOCAL = "local"
"""The address of a cluster that is this machine, made for this run alone."""


def connect(address: str | None, **options: Any) -> str:
    """To `address`, to the cluster this process runs in, or to a local one; returns which.

    `options` are `ray.init`'s.
    """
    import ray

    # "local" by name: without it Ray tries the address file of a cluster long dead first
    where = address or os.environ.get("RAY_ADDRESS", LOCAL)
    if not ray.is_initialized():
        ray.init(address=where, include_dashboard=False, **options)
    return where


def worker_logs() -> Any:
    """The job's configuration by which its workers log a JSON object a line; its driver does not,
    as it would by `ray.init(logging_config=…)`: a person reads that."""
    import ray
    from ray.job_config import JobConfig

    job = JobConfig()
    job.set_py_logging_config(ray.LoggingConfig(encoding="JSON", log_level="INFO"))
    return job


def pools(stages: Sequence[Stage], workers: int | None, wait: float) -> list[Pool]:
    """The line's pools, planned with what the cluster has.

    Where the cluster cannot hold one worker of each pool, its autoscaler is asked for the missing
    nodes. Raises UserError when after `wait` seconds they are neither there nor on their way.
    """

    def plan(have: Mapping[str, float]) -> list[Pool]:
        return plan_pools(stages, have.get("CPU", 0.0), have.get("GPU", 0.0), workers)

    return _when_there(plan, _one_of_each(stages), wait)


def gpus_there(wanted: int, where: str) -> int:
    """How many GPUs the cluster at `where` has.

    If they are fewer than `wanted` its autoscaler, which a local cluster has not, is asked for the
    missing ones, and they are waited for unless after `WAIT` seconds none is on its way.
    """
    import ray

    def enough(have: Mapping[str, float]) -> int:
        if (there := int(have.get("GPU", 0))) < wanted:
            raise UserError(f"{wanted} GPUs are needed, the cluster has {there}")
        return there

    try:
        return _when_there(enough, [{"GPU": 1.0}] * wanted, 0.0 if where == LOCAL else WAIT)
    except UserError:
        return int(ray.cluster_resources().get("GPU", 0))


def _when_there(
    plan: Callable[[Mapping[str, float]], T], bundles: list[dict[str, float]], wait: float
) -> T:
    """`plan` of what the cluster has, once that raises no UserError; `bundles` are asked for."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    begin, asked = time.monotonic(), None
    try:
        while True:
            try:
                return plan(ray.cluster_resources())
            except UserError as wrong:
                if not wait:
                    raise
                # a placement group that waits for its nodes: unlike `request_resources`, whose
                # last caller replaces the whole cluster's request (Ray Data does so every 20 s),
                # and whose request outlives a driver that is killed
                asked = asked or placement_group(bundles)
                if time.monotonic() - begin >= wait and not _nodes_coming():
                    raise UserError(
                        f"{wrong}. No node was on its way after {wait:g} s; where starting one "
                        "takes the cluster longer, give it time by --wait-for-nodes SECONDS"
                    ) from wrong
            time.sleep(1.0)
    finally:
        if asked:
            remove_placement_group(asked)


def _one_of_each(stages: Sequence[Stage]) -> list[dict[str, float]]:
    needs = {(stage.resources.num_cpus, stage.resources.num_gpus) for stage in stages}
    bundles = [{"CPU": cpu, "GPU": gpu} for cpu, gpu in sorted(needs) if cpu or gpu]
    return [{name: need for name, need in bundle.items() if need} for bundle in bundles]


def _nodes_coming() -> bool:
    """Whether an autoscaler is starting nodes, by what it reports (read in Ray 2.60)."""
    import ray
    from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
    from ray.autoscaler.v2.sdk import get_cluster_status
    from ray.experimental.internal_kv import _internal_kv_get

    status = get_cluster_status(ray.get_runtime_context().gcs_address)
    if status.pending_launches or status.pending_nodes:
        return True
    report = _internal_kv_get(DEBUG_AUTOSCALING_STATUS)  # of the autoscaler's first version
    found = json.loads(report).get("autoscaler_report") or {} if report else {}
    return bool(found.get("pending_launches") or found.get("pending_nodes"))
