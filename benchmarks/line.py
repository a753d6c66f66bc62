"""What the line itself costs: samples that need no work, through Ray Data, against a plain graph.

`python -m benchmarks.line --samples 20000` prints milliseconds of wall time per sample for our
line, and for the graph one would write first: three stages, three actor pools, one row per block.
With more samples it also tells whether memory stays flat.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass

import tyro

from benchmarks.gpus import Nothing, Numbers
from datapipe.line.line import RayLine


@dataclass(frozen=True)
class LineBenchmark:
    """How many samples."""

    samples: int = 20_000
    plain: int = 1_000
    """Samples through the plain graph; 0 leaves it out."""


class Row:
    """A stage that does nothing, as a plain Ray Data class."""

    def __call__(self, row: dict[str, object]) -> dict[str, object]:
        return row


def ours(count: int) -> float:
    """Seconds from the first sample out to the last."""
    begin = time.perf_counter()
    line = RayLine([Nothing(name) for name in ("prepare", "synthesize", "score")])
    samples = line.run(Numbers(count))
    next(samples)
    print(f"our line     first sample after {time.perf_counter() - begin:.1f} s, Ray's start too")
    return _timed(samples, count - 1, report=True)


def plain(count: int) -> float:
    """The same for three pools and one row per block."""
    import ray
    from ray.data import ActorPoolStrategy

    rows = [{"key": f"k{n:08d}", "caption": "a caption"} for n in range(count)]
    dataset = ray.data.from_items(rows, override_num_blocks=count)
    for _ in range(3):
        dataset = dataset.map(Row, compute=ActorPoolStrategy(size=1), num_cpus=0.3)
    samples = iter(dataset.iter_rows())
    next(samples)
    return _timed(samples, count - 1)


def _timed(samples: Iterator[object], count: int, *, report: bool = False) -> float:
    begin, seen = time.perf_counter(), 0
    for _ in samples:
        seen += 1
        if report and seen % max(1, count // 5) == 0:
            print(f"  {seen:>9,} samples, {time.perf_counter() - begin:6.1f} s, {_memory()}")
    if seen != count:
        raise RuntimeError(f"{seen} of {count} samples came out")
    return time.perf_counter() - begin


def _memory() -> str:
    import ray

    name = "object_store_memory"
    used = ray.cluster_resources()[name] - ray.available_resources().get(name, 0.0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return f"driver peak {peak:.0f} MB, object store {used / 2**20:.1f} MB in use"


def main(settings: LineBenchmark) -> None:
    """Run both, ours first, in one Ray session."""
    a = 1000 * ours(settings.samples) / settings.samples
    print(f"our line     {a:6.2f} ms per sample")
    if settings.plain:
        b = 1000 * plain(settings.plain) / settings.plain
        print(f"plain graph  {b:6.2f} ms per sample")
        print(f"ratio        {b / a:6.1f}")


if __name__ == "__main__":
    main(tyro.cli(LineBenchmark))
