"""How many workers each stage gets, from what the cluster has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from datapipe.errors import UserError
from datapipe.stage import Resources, Stage

LISTING_CPUS = 0.05
"""Held by the task that lists the corpus."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The workers of one stage."""

    workers: int
    resources: Resources
    """Of one worker."""


def plan_pools(
    stages: Sequence[Stage], cpus: float, gpus: float, workers: int | None = None
) -> list[Pool]:
    """One pool per stage. GPU stages share the GPUs, CPU stages the CPUs.

    Actors hold their CPUs for the whole run, and one that does not fit waits for ever without a
    word (Ray 2.60): so the sum never exceeds the cluster, and CPU shares shrink below one where
    there are fewer CPUs than stages. `workers` bounds the CPU workers of all stages together.

    Raises UserError when the cluster can never hold one worker of each stage.
    """
    on_gpu = sum(stage.resources.num_gpus for stage in stages)
    if on_gpu and gpus < on_gpu:
        needs = ", ".join(f"{s.name} {s.resources.num_gpus:g}" for s in stages if _gpu(s))
        raise UserError(
            f"the line needs {on_gpu:g} GPUs for one worker of each stage ({needs}), "
            f"the cluster has {gpus:g}; add GPU nodes, or choose --engine mesh and --device cpu"
        )
    groups = int(gpus // on_gpu) if on_gpu else 0
    weight = {s.name: s.resources.num_cpus for s in stages if not _gpu(s)}
    shares = _split(weight, cpus - LISTING_CPUS, workers)
    return [
        Pool(groups, Resources(num_gpus=stage.resources.num_gpus))
        if _gpu(stage)
        else Pool(shares[stage.name][0], Resources(num_cpus=shares[stage.name][1]))
        for stage in stages
    ]


def _split(
    weight: dict[str, float], cpus: float, workers: int | None
) -> dict[str, tuple[int, float]]:
    """Workers and CPUs per worker by stage name; `weight` is the stage's share of the work."""
    if not weight:
        return {}
    if cpus <= 0:
        raise UserError("the cluster has no CPU for the line's CPU stages; add a CPU node")
    total = max(len(weight), min(int(cpus), workers or int(cpus)))
    whole = sum(weight.values())
    counts = {name: max(1, int(total * part / whole)) for name, part in weight.items()}
    each = min(1.0, cpus / sum(counts.values()))
    return {name: (count, int(each * 100) / 100) for name, count in counts.items()}


def _gpu(stage: Stage) -> bool:
    return stage.resources.num_gpus > 0
