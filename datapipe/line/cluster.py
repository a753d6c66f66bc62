"""The cluster that a line runs on: joining it, and dividing what it has into pools of workers."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from datapipe.errors import UserError
from datapipe.stage import Resources, Stage

T = TypeVar("T")
TOKEN = (
    "put it into ~/.ray/auth_token or RAY_AUTH_TOKEN (`ray get-auth-token` on the head shows it) "
    "and set RAY_AUTH_MODE=token"
)
"""What to do where a cluster wants a token."""
LOCAL = "local"
"""The address of a cluster that is this machine, made for this run alone."""
_CONNECT_SECONDS = 10.0
WAIT = 45.0
"""Seconds that GPUs may be neither there nor on their way, where no option says so."""


def connect(address: str | None, **options: Any) -> str:
    """Join the cluster at `address`, the one this process runs in, or a local one; returns which.

    `options` are `ray.init`'s. Raises UserError where no cluster answers.
    """
    # "local" by name: without it Ray tries the address file of a cluster long dead first
    where = address or os.environ.get("RAY_ADDRESS", LOCAL)
    if where != LOCAL:
        _check_answers(where)
    if address not in (None, LOCAL):  # a cluster of RAY_ADDRESS that has no token loses its actors
        use_token()
    import ray

    if not ray.is_initialized():
        try:
            ray.init(address=where, include_dashboard=False, **options)
        except (ConnectionError, ray.exceptions.AuthenticationError) as wrong:
            raise UserError(
                f"cannot join a Ray cluster at {where}: {wrong}. If its head wants a token, {TOKEN}"
            ) from wrong
    return where


def use_token() -> None:
    """Send the token of this user's clusters.

    Ray's client sends one only when told to; `ray start` uses one wherever there is one.
    """
    named = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if named or (Path.home() / ".ray" / "auth_token").exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _check_answers(where: str) -> None:
    """Raises UserError where nothing listens at HOST:PORT, for which Ray itself waits minutes."""
    host, _, port = where.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # auto, say: Ray knows
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as wrong:
        raise UserError(
            f"no Ray cluster answers at {where} ({wrong}): give the address of its head, usually "
            "HOST:6379, and look whether the head runs and this machine may reach it"
        ) from wrong


def worker_logs() -> Any:
    """The configuration of a job whose workers log a JSON object a line.

    The driver does not, as it would by `ray.init(logging_config=…)`: a person reads its log.
    """
    import ray
    from ray.job_config import JobConfig

    job = JobConfig()
    job.set_py_logging_config(ray.LoggingConfig(encoding="JSON", log_level="INFO"))
    return job


@dataclass(frozen=True, slots=True)
class Pool:
    """The workers that run some consecutive stages."""

    stages: tuple[Stage, ...]
    workers: int
    """How many there are when the line starts."""
    least: int
    """There are never fewer, while the cluster has room for them."""
    most: int | None
    """There are never more, however the cluster grows; None: as many as find room."""
    resources: Resources
    """What one worker holds."""


def pools(stages: Sequence[Stage], workers: int | None, wait: float) -> list[Pool]:
    """The line's pools, planned with what the cluster has that this process has joined.

    Where the cluster cannot hold one worker of each pool, its autoscaler is asked for the missing
    nodes. Raises UserError when after `wait` seconds they are neither there nor on their way.
    """

    def plan(have: Mapping[str, float]) -> list[Pool]:
        return plan_pools(stages, have.get("CPU", 0.0), have.get("GPU", 0.0), workers)

    return _when_there(plan, _one_of_each(stages), wait)


def plan_pools(
    stages: Sequence[Stage], cpus: float, gpus: float, workers: int | None = None
) -> list[Pool]:
    """One pool for each run of consecutive stages on the same kind of resource.

    Stages that all run on CPUs share one pool whose workers do the whole line: they never wait for
    each other, and a cluster that shrinks to one CPU still gets on. Pools that compete for CPUs
    give idle workers up to each other; a GPU worker, whose models take minutes to load, is kept.
    `workers` bounds the CPU workers of all pools together. The sum never exceeds the cluster.

    Raises UserError when the cluster can never hold one worker of each pool.
    """
    groups = _groups(stages)
    needed = [_held(group) for group in groups]
    on_gpu = sum(needed)
    if gpus < on_gpu:
        names = ", ".join(
            f"{stage.name} {stage.resources.num_gpus:g}" for stage in stages if _on_gpu(stage)
        )
        raise UserError(
            f"the line needs {on_gpu:g} GPUs for one worker of each stage ({names}), the cluster "
            f"has {gpus:g}; add GPU nodes, or choose stages that run on CPUs"
        )
    weights = [
        0.0 if gpu else sum(stage.resources.num_cpus for stage in group)
        for gpu, group in zip(needed, groups, strict=True)
    ]
    counts, each = _split(weights, cpus, workers)
    alone = sum(weight > 0 for weight in weights) == 1
    pools = []
    for group, gpu, count in zip(groups, needed, counts, strict=True):
        threads = max(stage.resources.threads for stage in group)
        if gpu:
            count = int(gpus / on_gpu)
            held = Resources(num_gpus=gpu, threads=threads)
            pools.append(Pool(group, count, least=count, most=None, resources=held))
        else:
            held = Resources(num_cpus=each, threads=threads)
            least, most = count if alone else 1, count if workers else None
            pools.append(Pool(group, count, least, most, held))
    return pools


def gpus_held(stages: Sequence[Stage]) -> dict[str, float]:
    """How many GPUs a worker holds while it runs each stage, by the stage's name."""
    return {stage.name: _held(group) for group in _groups(stages) for stage in group}


def _groups(stages: Sequence[Stage]) -> list[tuple[Stage, ...]]:
    return [tuple(group) for _, group in groupby(stages, _on_gpu)]


def _held(group: Sequence[Stage]) -> float:
    """GPUs that the stages of a worker share: what the largest of them needs.

    Ray would refuse their sum where it is above 1 and no whole number.
    """
    return max(stage.resources.num_gpus for stage in group)


def _split(weights: Sequence[float], cpus: float, workers: int | None) -> tuple[list[int], float]:
    """Workers of each CPU pool in proportion to the weights, and the CPUs of one worker."""
    pools, whole = sum(weight > 0 for weight in weights), sum(weights)
    if not pools:
        return [0] * len(weights), 0.0
    if cpus <= 0:
        raise UserError("the cluster has no CPU for the line's CPU stages; add a CPU node")
    most = max(1, round(cpus))
    total = max(pools, min(most, workers or most))
    counts = [max(1, int(total * weight / whole)) if weight else 0 for weight in weights]
    return counts, int(min(1.0, cpus / sum(counts)) * 100) / 100


def _on_gpu(stage: Stage) -> bool:
    return stage.resources.num_gpus > 0


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
    """What `plan` makes of the cluster's resources, as soon as it raises no UserError.

    Meanwhile `bundles` are asked for. Raises the UserError after `wait` seconds, unless nodes are
    coming.
    """
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
