"""Whether the line keeps many GPUs busy: an engine that sleeps on declared GPUs of several nodes.

`python -m benchmarks.gpus` starts a Ray cluster of four nodes with eight GPUs each on this machine,
none of them real. Each sample is a second on its GPU, and some milliseconds of the CPU before and
after it. Work begins when every GPU has its worker. Printed are samples per second against the
GPUs' own pace, and the gaps between the samples of a GPU, both after the first few samples.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import tyro

from datapipe.line.line import RayLine
from datapipe.record import Sample, Source
from datapipe.stage import Resources

Spans = Mapping[str, Sequence[tuple[float, float]]]
"""When each sample of each GPU worker was on the GPU, in order; seconds since the epoch."""


@dataclass(frozen=True)
class GpusBenchmark:
    """The size of the cluster and of the work."""

    nodes: int = 4
    gpus: int = 8
    """GPUs of a node."""
    cpus: int = 2
    """CPUs of a node: each is a worker for the stages before and after."""
    seconds: float = 1.0
    """Seconds of a sample on its GPU."""
    rounds: int = 60
    """Samples for each GPU."""
    warm: int = 5
    """How many of them pass before the measurement begins."""


@dataclass(frozen=True)
class Numbers:
    """A listing of samples without videos."""

    count: int

    def __call__(self) -> Iterator[Sample]:
        for number in range(self.count):
            yield Sample(f"k{number:08d}", Source(f"{number}.mp4", ".mp4"), "a caption")


class Nothing:
    """A CPU stage that does nothing."""

    resources = Resources(num_cpus=1.0)

    def __init__(self, name: str) -> None:
        self.name = name

    def setup(self) -> None:
        """Nothing to load."""

    def __call__(self, sample: Sample) -> Sample:
        return sample


class Sleeper:
    """A stage like Synthesize with FLUX: one sample at a time on the GPU, work before and after."""

    name = "synthesize"
    resources = Resources(num_gpus=1.0, threads=3)

    def __init__(self, log: Path, seconds: float, workers: int, around: float = 0.02) -> None:
        """`around` are the seconds of preparing a reference, and of storing the views."""
        self.log, self.seconds, self.workers, self.around = log, seconds, workers, around

    def setup(self) -> None:
        self.lock = threading.Lock()
        self.mine.touch()

    @property
    def mine(self) -> Path:
        return self.log / str(os.getpid())

    def __call__(self, sample: Sample) -> Sample:
        # the processes of so many workers take a small machine minutes to start
        while len(list(self.log.iterdir())) < self.workers:
            time.sleep(0.2)
        time.sleep(self.around)
        with self.lock:
            begin = time.time()
            time.sleep(self.seconds)
            end = time.time()
        time.sleep(self.around)
        with self.mine.open("a") as file:
            file.write(f"{begin} {end}\n")
        return replace(sample, candidate="none")


def read_spans(log: Path) -> Spans:
    """Read what the workers wrote."""
    texts = {file.name: file.read_text().splitlines() for file in log.iterdir()}
    return {
        name: sorted((float(b), float(e)) for b, e in (line.split() for line in lines))
        for name, lines in texts.items()
    }


def report(spans: Spans, settings: GpusBenchmark) -> str:
    """Throughput and gaps while every GPU is past its first samples and none has run out.

    Raises RuntimeError where there was no such time.
    """
    counts = sorted(len(found) for found in spans.values())
    if counts[0] <= settings.warm:
        raise RuntimeError(f"a GPU got less than the warm-up; samples of each: {counts}")
    begin = max(found[settings.warm][0] for found in spans.values())
    end = min(found[-1][1] for found in spans.values())
    done = sum(begin < span[1] <= end for found in spans.values() for span in found)
    gaps = [
        after[0] - before[1]
        for found in spans.values()
        for before, after in pairwise(found)
        if begin < before[1] and after[0] < end
    ]
    rate, ideal = done / (end - begin), len(spans) / settings.seconds
    worst = statistics.quantiles(gaps, n=100)[98]
    tail = max(found[-1][1] for found in spans.values()) - end
    return (
        f"{len(spans)} GPU workers with {counts[0]} to {counts[-1]} samples each; measured are "
        f"{done} in {end - begin:.1f} s\n"
        f"throughput   {rate:.2f} samples/s, {rate / ideal:.1%} of {ideal:g}\n"
        f"gaps         median {1000 * statistics.median(gaps):.1f} ms, "
        f"99 % {1000 * worst:.1f} ms\n"
        f"tail         the first GPU ran out {tail:.1f} s before the last"
    )


def main(settings: GpusBenchmark) -> None:
    """Start the cluster, run, report, end the cluster."""
    import ray
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 150 * 2**20, "num_cpus": settings.cpus}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    try:
        for _ in range(settings.nodes):
            cluster.add_node(num_gpus=settings.gpus, **small)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder)
            workers = settings.nodes * settings.gpus
            sleeper = Sleeper(log, settings.seconds, workers)
            line = RayLine([Nothing("prepare"), sleeper, Nothing("score")])
            for _ in line.run(Numbers(workers * settings.rounds)):
                pass
            print(report(read_spans(log), settings))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(tyro.cli(GpusBenchmark))
