"""Where a line's time goes, from some samples in this process, and what bounds it on a cluster."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from datapipe.errors import UserError
from datapipe.gpu import busy
from datapipe.line.cluster import Pool, gpus_held, plan_pools
from datapipe.record import Sample
from datapipe.stage import Stage, apply


@dataclass
class Taken:
    """What some samples took in one stage, in seconds."""

    samples: int = 0
    """That reached the stage."""
    wall: float = 0.0
    cpu: float = 0.0
    """Of all threads of this process."""
    gpu: float = 0.0
    """In which the GPU was at work: see `datapipe.gpu.busy`."""


@dataclass
class Profile:
    """Some samples, one after the other."""

    samples: int = 0
    taken: dict[str, Taken] = field(default_factory=dict)
    """By stage, in the order of the line."""
    outcomes: dict[str, int] = field(default_factory=dict)

    def add(self, stages: Sequence[Stage], sample: Sample) -> Sample:
        """Take a sample through the stages, which are set up, and keep the time."""
        for stage in stages:
            taken = self.taken.setdefault(stage.name, Taken())
            if sample.stopped is not None:
                continue
            before = time.process_time(), busy.seconds()
            with_gpu = stage.resources.num_gpus and stage.resources.threads == 1
            if with_gpu:  # as a worker counts it
                with busy:
                    sample = apply(stage, sample)
            else:
                sample = apply(stage, sample)
            taken.samples += 1
            taken.wall += sample.seconds[stage.name]
            taken.cpu += time.process_time() - before[0]
            taken.gpu += busy.seconds() - before[1]
        self.samples += 1
        self.outcomes[sample.outcome] = self.outcomes.get(sample.outcome, 0) + 1
        return sample


@dataclass(frozen=True)
class Side:
    """Workers that take turns at the same work: those of all CPU pools, or of one GPU pool."""

    on_gpu: bool
    workers: int
    each: float
    """CPUs or GPUs that a worker holds."""
    seconds: Mapping[str, float]
    """Of a worker for a sample of the corpus, by stage."""
    overlapped: float
    """Of them together, when a worker has as many samples in hand as it may."""

    @property
    def rate(self) -> float:
        """Samples a second, at most."""
        return self.workers / self.overlapped if self.overlapped else float("inf")

    @property
    def stage(self) -> str:
        """The one that takes most."""
        return max(self.seconds, key=lambda stage: self.seconds[stage])

    @property
    def held(self) -> float:
        """CPUs or GPUs, for a sample a second."""
        return self.overlapped * self.each


def sides(profile: Profile, stages: Sequence[Stage], cpus: float, gpus: float) -> list[Side]:
    """What a cluster with so many CPUs and GPUs gives the line; the one that bounds it first.

    A worker on CPUs is as fast as this process; one on a GPU has several samples in hand, so it
    takes no longer than its GPU does. Raises UserError where the cluster lacks what a stage needs,
    and where there is nothing to tell.
    """
    if not any(taken.samples for taken in profile.taken.values()):
        raise UserError(
            f"none of the {profile.samples} videos reached a stage: the listing stopped them all "
            "(`harmoview synthesize` records why); profile other videos"
        )
    pools = plan_pools(stages, cpus, gpus)
    on_cpu = [pool for pool in pools if not pool.resources.num_gpus]
    found = [_side(profile, [pool]) for pool in pools if pool.resources.num_gpus]
    if on_cpu:
        found.append(_side(profile, on_cpu))
    return sorted(found, key=lambda side: side.rate)


def _side(profile: Profile, pools: Sequence[Pool]) -> Side:
    stages = [stage for pool in pools for stage in pool.stages]
    taken = [profile.taken.get(stage.name, Taken()) for stage in stages]
    held = pools[0].resources
    threads = max(pool.resources.threads for pool in pools)
    wall, gpu = sum(t.wall for t in taken), sum(t.gpu for t in taken)
    return Side(
        on_gpu=held.num_gpus > 0,
        workers=sum(pool.workers for pool in pools),
        each=held.num_gpus or held.num_cpus,
        seconds={
            stage.name: t.wall / profile.samples for stage, t in zip(stages, taken, strict=True)
        },
        overlapped=max(wall / threads, gpu) / profile.samples,
    )


def sentence(found: Sequence[Side]) -> str:
    """What bounds the line, and what to add."""
    bound = found[0]
    unit = _unit(bound)
    share = bound.seconds[bound.stage] / sum(bound.seconds.values())
    text = (
        f"{bound.stage} bounds the line: {bound.workers} {unit} workers at "
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


def _unit(side: Side) -> str:
    return "GPU" if side.on_gpu else "CPU"


def passed_through(
    stages: Sequence[Stage], samples: Iterable[Sample], profile: Profile
) -> Iterator[Sample]:
    """Every sample, when it is through."""
    for sample in samples:
        yield profile.add(stages, sample)


def needs_gpu(stages: Sequence[Stage]) -> bool:
    """Whether any stage runs on a GPU."""
    return any(gpus_held(stages).values())
