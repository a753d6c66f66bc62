"""What a whole corpus will give and cost: what became of a pilot's videos, with intervals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dataset.inspect.ledger_stats import STAGES
from dataset.plan.intervals import (
    LEVEL,
    ZERO,
    Estimate,
    count_of,
    share_of,
    sum_of_amounts,
    sum_of_counts,
)
from dataset.plan.pilot import PilotVideo

FORMAT = 1
SHARD_SAMPLES, SHARD_BYTES = 1000, 1 << 30
"""As `harmoview pack` cuts shards unless told otherwise."""


@dataclass(frozen=True)
class Cluster:
    """What the work will run on, and what it costs."""

    gpus: float | None = None
    cpus: float | None = None
    gpu_hour: float | None = None
    cpu_hour: float | None = None
    gb_month: float | None = None
    """Of storage, for 10^9 bytes."""


@dataclass(frozen=True)
class YawPlan:
    """The views at one yaw."""

    yaw: int
    made: int
    """In the pilot."""
    passed: int
    share: Estimate | None
    """The yield: passed over made. None where the pilot made none."""
    packed: Estimate
    """Views in the shards."""
    real: Estimate
    """Identities that the corpus itself shows so."""


@dataclass(frozen=True)
class StagePlan:
    """One stage's work."""

    stage: str
    gpus: float
    """That its worker holds; 0: it holds a CPU."""
    videos: int
    """Of the pilot, that reached it."""
    timed: int
    """Those of them whose seconds count."""
    cold: bool
    """Workers' first samples count too, as too few others are left: the hours come out long."""
    hours: Estimate
    """Of workers."""


@dataclass(frozen=True)
class CorpusPlan:
    """Everything `harmoview plan` knows."""

    videos: int
    sample: int
    candidates: Estimate
    identities: Estimate
    packed: Estimate
    packed_identities: Estimate
    left_out: Estimate
    """Candidates of which nothing is packed."""
    outcomes: list[tuple[str, str | None, int, Estimate]]
    """Other than candidates, by outcome and reason: how many in the pilot, how many in all."""
    yaws: list[YawPlan]
    stages: list[StagePlan]
    candidate_bytes: Estimate
    shard_bytes: Estimate
    shards: Estimate
    gpu_hours: Estimate
    cpu_hours: Estimate
    accepted_per_second: float | None
    """Views that pass, in the pilot, for each second of a GPU (of a CPU where synthesize takes
    none) in synthesize; None where nothing was timed."""
    frontal_hours: Estimate | None
    """Hours of workers that go into views at 0, which `--frontal reference` would save; None where
    none are made."""
    wall_hours: Estimate | None
    """None where no cluster is given."""
    bound_by: str | None
    money: dict[str, Estimate]
    """By what it is for, where a price is given."""
    cluster: Cluster

    def as_dict(self) -> dict[str, Any]:
        """JSON types; docs/plan.md describes them."""
        data = asdict(self)
        data["outcomes"] = [
            {"outcome": outcome, "reason": reason, "pilot": seen, "videos": asdict(count)}
            for outcome, reason, seen, count in self.outcomes
        ]
        return {"format": FORMAT, "level": LEVEL, **data}


def plan(
    pilot: Sequence[PilotVideo],
    videos: int,
    yaws: Sequence[int],
    gpus: Mapping[str, float],
    cluster: Cluster,
    frontal_made: bool = False,
) -> CorpusPlan:
    """Of a corpus of `videos`, of which `pilot` was drawn; `gpus` as in run.json.

    `frontal_made` says that the views at 0 are synthesised.
    """
    sample = len(pilot)
    stages = [_stage(pilot, videos, stage, gpus.get(stage, 0.0)) for stage in STAGES]
    gpu_hours = sum((s.hours * s.gpus for s in stages), start=ZERO)
    cpu_hours = sum((s.hours for s in stages if not s.gpus), start=ZERO)
    wall, bound_by = _wall(gpu_hours, cpu_hours, cluster)
    candidate_bytes = _bytes([v.candidate_bytes for v in pilot], videos)
    shard_bytes = _bytes([v.packed_bytes for v in pilot], videos)
    kept = [v for v in pilot if v.packed_bytes]
    packed = count_of(len(kept), sample, videos)
    candidates = [v for v in pilot if v.outcome == "candidate"]
    stopped = Counter((v.outcome, v.reason) for v in pilot if v.outcome != "candidate")
    return CorpusPlan(
        videos=videos,
        sample=sample,
        candidates=count_of(len(candidates), sample, videos),
        identities=sum_of_counts([v.identities for v in pilot], videos),
        packed=packed,
        packed_identities=sum_of_counts([v.packed_identities for v in pilot], videos),
        left_out=count_of(len(candidates) - len(kept), sample, videos),
        outcomes=[
            (outcome, reason, seen, count_of(seen, sample, videos))
            for (outcome, reason), seen in sorted(stopped.items(), key=lambda e: (-e[1], str(e)))
        ],
        yaws=[_yaw(pilot, videos, yaw) for yaw in sorted(yaws)],
        stages=stages,
        candidate_bytes=candidate_bytes,
        shard_bytes=shard_bytes,
        shards=_shards(packed, shard_bytes),
        gpu_hours=gpu_hours,
        cpu_hours=cpu_hours,
        accepted_per_second=_accepted(pilot, gpus.get("synthesize", 0.0)),
        frontal_hours=_hours_of(stages, "synthesize") * (1 / len(yaws)) if frontal_made else None,
        wall_hours=wall,
        bound_by=bound_by,
        money=_money(gpu_hours, cpu_hours, wall, candidate_bytes + shard_bytes, cluster),
        cluster=cluster,
    )


def _yaw(pilot: Sequence[PilotVideo], videos: int, yaw: int) -> YawPlan:
    made, passed = sum(v.made[yaw] for v in pilot), sum(v.passed[yaw] for v in pilot)
    with_it = sum(v.made[yaw] > 0 for v in pilot)
    share = share_of(passed, made, with_it, len(pilot) / videos) if made else None
    packed = sum_of_counts([v.packed_views[yaw] for v in pilot], videos)
    real = sum_of_counts([v.real[yaw] for v in pilot], videos)
    return YawPlan(yaw, made, passed, share, packed, real)


def _accepted(pilot: Sequence[PilotVideo], gpus: float) -> float | None:
    timed, _ = _timed(pilot, "synthesize")
    seconds = sum(v.seconds["synthesize"] for v in timed) * (gpus or 1.0)
    return sum(v.passed.total() for v in timed) / seconds if seconds else None


def _timed(pilot: Sequence[PilotVideo], stage: str) -> tuple[list[PilotVideo], bool]:
    """The videos whose seconds count, and whether workers' first ones are among them."""
    reached = [v for v in pilot if stage in v.seconds]
    warm = [v for v in reached if stage not in v.untimed]
    cold = 2 * len(warm) < len(reached)
    return (reached if cold else warm), cold


def _hours_of(stages: Sequence[StagePlan], name: str) -> Estimate:
    return next((stage.hours for stage in stages if stage.stage == name), ZERO)


def _stage(pilot: Sequence[PilotVideo], videos: int, stage: str, gpus: float) -> StagePlan:
    reached = sum(stage in v.seconds for v in pilot)
    found, cold = _timed(pilot, stage)
    timed = [v.seconds[stage] for v in found]
    seconds = sum_of_amounts(timed, reached, len(pilot), videos)
    return StagePlan(stage, gpus, reached, len(timed), cold, seconds * (1 / 3600))


def _bytes(sizes: Sequence[int], videos: int) -> Estimate:
    found = [float(size) for size in sizes if size]
    return sum_of_amounts(found, len(found), len(sizes), videos)


def _shards(packed: Estimate, size: Estimate) -> Estimate:
    """As many as samples or bytes call for; one cut by bytes lacks half a sample on average."""
    room = SHARD_BYTES - (size.value / packed.value / 2 if packed.value else 0.0)

    def needed(samples: float, of_bytes: float) -> float:
        return float(math.ceil(max(samples / SHARD_SAMPLES, of_bytes / max(room, 1.0))))

    high = None
    if packed.high is not None and size.high is not None:
        high = needed(packed.high, size.high)
    return Estimate(needed(packed.value, size.value), needed(packed.low, size.low), high)


def _wall(gpu: Estimate, cpu: Estimate, cluster: Cluster) -> tuple[Estimate | None, str | None]:
    """Until the slower of GPUs and CPUs is done, none of which is ever idle meanwhile."""
    parts = {"cpus": cpu * (1 / cluster.cpus)} if cluster.cpus else {}
    if cluster.gpus and gpu.high != 0:
        parts["gpus"] = gpu * (1 / cluster.gpus)
    if not parts:
        return None, None
    highs = [part.high for part in parts.values()]
    wall = Estimate(
        max(part.value for part in parts.values()),
        max(part.low for part in parts.values()),
        None if None in highs else max(high for high in highs if high is not None),
    )
    return wall, max(parts, key=lambda name: parts[name].value)


def _money(
    gpu: Estimate, cpu: Estimate, wall: Estimate | None, stored: Estimate, cluster: Cluster
) -> dict[str, Estimate]:
    """A cluster is paid for as long as it stands, busy or not; without one, the hours of work."""
    money = {}
    for name, price, count, worked in (
        ("gpus", cluster.gpu_hour, cluster.gpus, gpu),
        ("cpus", cluster.cpu_hour, cluster.cpus, cpu),
    ):
        if price is not None and (count or worked.high != 0):
            money[name] = (worked if wall is None else wall * (count or 0.0)) * price
    if len(money) > 1:
        money["compute"] = sum(money.values(), start=ZERO)
    if cluster.gb_month is not None:
        money["storage_month"] = stored * (cluster.gb_month / 1e9)
    return money
