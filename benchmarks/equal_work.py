"""What steps of equal work are worth: workers wait for the one with the longest clip, simulated.

    python benchmarks/equal_work.py [--workers 8] [--short 0.5] [--two 0.2]

FSDP gathers each block's weights for all workers at once, so a forward pass takes as long as the
most expensive micro-batch of any worker. The costs are FLOPs of a Wan 2.2 A14B block; the order is
the loader's own, with micro-batches of one step drawn apart and with all of them of one group.
"""

from __future__ import annotations

import argparse
from itertools import islice

import numpy as np

from harmoview.data.plan import BatchGroup, BatchPlan
from harmoview.encode.settings import default_buckets
from harmoview.recipes import A14B

WIDTH, HIDDEN = 5120, 13824
REFERENCE = 7 * (512 // 16) ** 2
"""Tokens of one person's seven slots."""
SAMPLES, BATCHES = 2000, 8000


def main() -> None:
    """Plan both ways and compare the time that the slowest workers take."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--short", type=float, default=0.5, help="share of clips of 41 frames")
    parser.add_argument("--two", type=float, default=0.2, help="share of samples of two people")
    options = parser.parse_args()
    draw = np.random.default_rng(0)
    buckets = default_buckets(A14B, 16)
    long = max(bucket.frames for bucket in buckets)
    groups: dict[int, BatchGroup] = {}
    for number in range(SAMPLES):
        frames = min(b.frames for b in buckets) if draw.random() < options.short else long
        size = draw.choice([b for b in buckets if b.frames == frames])
        groups[number] = (frames, size.height, size.width, 1 + int(draw.random() < options.two))
    keys = {number: str(number) for number in groups}
    times = {}
    for name, step in (("drawn apart", 1), ("equal work", options.workers)):
        plan = BatchPlan(keys, groups, 1, 0, step)
        costs = [flops(groups[b.samples[0]]) for b in islice(plan.stream(), BATCHES)]
        of_step = np.array(costs[: BATCHES // options.workers * options.workers]).reshape(
            -1, options.workers
        )
        times[name] = float(of_step.max(axis=1).mean() / of_step.mean())
        print(f"{name:<12} the slowest worker takes {times[name]:.3f} times the mean work")
    print(f"gain at {options.workers} workers: {times['drawn apart'] / times['equal work']:.2f}")


def flops(group: BatchGroup) -> float:
    """FLOPs of one block's forward pass on a sample."""
    frames, height, width, people = group
    tokens = ((frames - 1) // 4 + 1) * (height // 16) * (width // 16) + people * REFERENCE
    condition = 512 + 256 * people
    linear = 2 * tokens * (6 * WIDTH**2 + 2 * WIDTH * HIDDEN) + 4 * condition * WIDTH**2
    return linear + 4.0 * tokens * (tokens + condition) * WIDTH


if __name__ == "__main__":
    main()
