"""How many workers the line gets, from what the cluster has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from datapipe.errors import UserError
from datapipe.stage import Resources, Stage


@dataclass(frozen=True, slots=True)
class Pool:
    """The workers that run some consecutive stages."""

    stages: tuple[Stage, ...]
    workers: int
    """When the line starts."""
    least: int
    """Never fewer, while the cluster has room for them."""
    most: int | None
    """Never more, however the cluster grows; None: as many as find room."""
    resources: Resources
    """Of one worker."""


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
    """GPUs that the stages of a worker share: what the largest of them needs, not the sum, which
    Ray would refuse where it is above 1 and no whole number."""
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
