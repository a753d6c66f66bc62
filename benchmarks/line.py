"""What the line itself costs: samples that need no work, through Ray Data, against a plain graph.

`python -m benchmarks.line --samples 2000` prints milliseconds of wall time per sample for our line,
and for the graph one would write first: three stages, three actor pools, one row per block.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass

import tyro

from datapipe.line.executor import RayLine
from datapipe.record import Sample, Source
from datapipe.stage import Resources


@dataclass(frozen=True)
class Settings:
    """How many samples."""

    samples: int = 2000


@dataclass(frozen=True)
class Numbers:
    """A listing of samples without videos."""

    count: int

    def __call__(self) -> Iterator[Sample]:
        for number in range(self.count):
            yield Sample(f"k{number:08d}", Source(f"{number}.mp4", ".mp4"), "a caption")


class Nothing:
    """A stage that does nothing."""

    resources = Resources(num_cpus=1.0)

    def __init__(self, name: str) -> None:
        self.name = name

    def setup(self) -> None:
        """Nothing to load."""

    def __call__(self, sample: Sample) -> Sample:
        return sample


class Row:
    """The same as a plain Ray Data class."""

    def __call__(self, row: dict[str, object]) -> dict[str, object]:
        return row


def ours(count: int) -> float:
    """Seconds from the first sample out to the last."""
    line = RayLine([Nothing(name) for name in ("prepare", "synthesize", "score")])
    return _timed(line.run(Numbers(count)), count)


def plain(count: int) -> float:
    """The same for three pools and one row per block."""
    import ray
    from ray.data import ActorPoolStrategy

    rows = [{"key": f"k{n:08d}", "caption": "a caption"} for n in range(count)]
    dataset = ray.data.from_items(rows, override_num_blocks=count)
    for _ in range(3):
        dataset = dataset.map(Row, compute=ActorPoolStrategy(size=1), num_cpus=0.3)
    return _timed(dataset.iter_rows(), count)


def _timed(samples: Iterator[object], count: int) -> float:
    begin, seen = 0.0, 0
    for _ in samples:
        begin, seen = begin or time.perf_counter(), seen + 1
    if seen != count:
        raise RuntimeError(f"{seen} of {count} samples came out")
    return time.perf_counter() - begin


def main(settings: Settings) -> None:
    """Run both, ours first, in one Ray session."""
    a = ours(settings.samples)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    b = plain(settings.samples)
    each = 1000 / settings.samples
    print(f"our line     {a * each:6.1f} ms per sample, driver peak {memory:.0f} MB")
    print(f"plain graph  {b * each:6.1f} ms per sample")
    print(f"ratio        {b / a:6.2f}")


if __name__ == "__main__":
    main(tyro.cli(Settings))
