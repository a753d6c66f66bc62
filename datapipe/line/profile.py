"""Where a line's time goes, from some samples in this process, and what bounds it on a cluster."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from datapipe.errors import UserError
from datapipe.line.cluster import Pool, gpus_held, plan_pools
from datapipe.record import Sample
from datapipe.stage import Stage, apply, gpu_busy


@dataclass
class StageTime:
    """What some samples took in one stage."""

    samples: int = 0
    """Samples that reached the stage."""
    wall: float = 0.0
    """Seconds by the clock."""
    cpu: float = 0.0
    """CPU seconds of all threads of this process."""
    gpu: float = 0.0
    """Seconds in which the GPU was at work: see `datapipe.stage.gpu_busy`."""


@dataclass
class Profile:
    """What some samples took that went through a line one after the other."""

    samples: int = 0
    taken: dict[str, StageTime] = field(default_factory=dict)
    """By stage, in the order of the line."""
    outcomes: dict[str, int] = field(default_factory=dict)

    def add(self, stages: Sequence[Stage], sample: Sample) -> Sample:
        """Take a sample through the stages, which are set up, and keep the time."""
        for stage in stages:
            taken = self.taken.setdefault(stage.name, StageTime())
            if sample.stopped is not None:
                continue
            before = time.process_time(), gpu_busy.seconds()
            with_gpu = stage.resources.num_gpus and stage.resources.threads == 1
            if with_gpu:  # as a worker counts it
                with gpu_busy:
                    sample = apply(stage, sample)
            else:
                sample = apply(stage, sample)
            taken.samples += 1
            taken.wall += sample.seconds[stage.name]
            taken.cpu += time.process_time() - before[0]
            taken.gpu += gpu_busy.seconds() - before[1]
        self.samples += 1
        self.outcomes[sample.outcome] = self.outcomes.get(sample.outcome, 0) + 1
        return sample


@dataclass(frozen=True)
class Workers:
    """Those that take turns at the same work: of all CPU pools, or of one GPU pool."""

    on_gpu: bool
    count: int
    each: float
    """CPUs or GPUs that a worker holds."""
    seconds: Mapping[str, float]
    """What a sample of the corpus takes of a worker, by stage."""
    overlapped: float
    """Seconds of a sample in all stages, when a worker has as many in hand as it may."""

    @property
    def rate(self) -> float:
        """Samples a second, at most."""
        return self.count / self.overlapped if self.overlapped else float("inf")

    @property
    def stage(self) -> str:
        """The stage that takes most."""
        return max(self.seconds, key=lambda stage: self.seconds[stage])

    @property
    def held(self) -> float:
        """CPUs or GPUs that are held for a sample a second."""
        return self.overlapped * self.each


def bottlenecks(
    profile: Profile, stages: Sequence[Stage], cpus: float, gpus: float
) -> list[Workers]:
    """The workers that a cluster with so many CPUs and GPUs has for a line, the slowest first.

    A worker on CPUs is as fast as this process; one on a GPU has several samples in hand, so it
    takes no longer than its GPU does. Raises UserError where the cluster lacks what a stage needs,
    and where no sample reached a stage.
    """
    if not any(taken.samples for taken in profile.taken.values()):
        raise UserError(
            f"none of the {profile.samples} videos reached a stage: the listing stopped them all "
            "(`harmoview synthesize` records why); profile other videos"
        )
    pools = plan_pools(stages, cpus, gpus)
    on_cpu = [pool for pool in pools if not pool.resources.num_gpus]
    found = [_workers(profile, [pool]) for pool in pools if pool.resources.num_gpus]
    if on_cpu:
        found.append(_workers(profile, on_cpu))
    return sorted(found, key=lambda workers: workers.rate)


def _workers(profile: Profile, pools: Sequence[Pool]) -> Workers:
    stages = [stage for pool in pools for stage in pool.stages]
    taken = [profile.taken.get(stage.name, StageTime()) for stage in stages]
    held = pools[0].resources
    threads = max(pool.resources.threads for pool in pools)
    wall, gpu = sum(t.wall for t in taken), sum(t.gpu for t in taken)
    return Workers(
        on_gpu=held.num_gpus > 0,
        count=sum(pool.workers for pool in pools),
        each=held.num_gpus or held.num_cpus,
        seconds={
            stage.name: t.wall / profile.samples for stage, t in zip(stages, taken, strict=True)
        },
        overlapped=max(wall / threads, gpu) / profile.samples,
    )


def sentence(found: Sequence[Workers]) -> str:
    """What bounds the line, and what to add to the cluster."""
    bound = found[0]
    unit = _unit(bound)
    share = bound.seconds[bound.stage] / sum(bound.seconds.values())
    text = (
        f"{bound.stage} bounds the line: {bound.count} {unit} workers at "
        f"{bound.overlapped:.2f} s a sample give {60 * bound.rate:,.1f} samples a minute at most, "
        f"and {share:.0%} of their time is {bound.stage}'s. "
    )
    if len(found) == 1 or not found[1].overlapped:  # no sample came so far
        return text + f"Add {unit}s: twice as many do twice as much."
    other = found[1]
    busy_share, enough = bound.rate / other.rate, other.rate * bound.held
    return text + (
        f"The {_unit(other)} workers are at work {busy_share:.0%} of the time. Add {unit}s: with "
        f"{enough:,.0f} of them both are full."
    )


def _unit(workers: Workers) -> str:
    return "GPU" if workers.on_gpu else "CPU"


def passed_through(
    stages: Sequence[Stage], samples: Iterable[Sample], profile: Profile
) -> Iterator[Sample]:
    """Every sample, as soon as it is through all stages; `profile` keeps the time."""
    for sample in samples:
        yield profile.add(stages, sample)


def needs_gpu(stages: Sequence[Stage]) -> bool:
    """Whether any stage runs on a GPU."""
    return any(gpus_held(stages).values())
