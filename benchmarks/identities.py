"""One person in many videos among a million identities: time, memory, and what the index misses.

    python -m benchmarks.identities --count 1000000 --width 128 --threshold 0.65

Made-up embeddings: directions without structure, which is the hardest case for a graph index. 38 %
of the identities are alone, the rest are of people with 2 to 1000 videos; two of one person have a
cosine of 0.5 to 0.9, about what a recogniser gives two videos of one person.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from dataset.people.clusters import cluster, exact_pairs

CHUNK = 50_000


@dataclass(frozen=True)
class IdentitiesBenchmark:
    """Find the pairs of one person, and compare with an exact search of some rows."""

    count: int = 1_000_000
    width: int = 128
    threshold: float = 0.65
    checked: int = 2_000
    """Rows whose neighbours are also searched exactly."""
    seed: int = 0


def embeddings(path: Path, settings: IdentitiesBenchmark, rng: np.random.Generator) -> Any:
    """Unit vectors in a file, the people shuffled."""
    count, width = settings.count, settings.width
    videos = np.minimum(rng.zipf(2.5, count), 1000)
    who = rng.permutation(np.repeat(np.arange(count), videos)[:count])
    people = rng.integers(0, 1 << 62, count)
    vectors = np.memmap(path, np.float32, "w+", shape=(count, width))
    for start in range(0, count, CHUNK):
        part = who[start : start + CHUNK]
        faces = np.stack([_direction(int(people[one]), width) for one in part])
        likeness = np.sqrt(rng.uniform(0.5, 0.9, (len(part), 1)))
        other = rng.standard_normal((len(part), width), np.float32)
        other /= np.linalg.norm(other, axis=1, keepdims=True)
        mixed = likeness * faces + np.sqrt(1 - likeness**2) * other
        vectors[start : start + CHUNK] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    return vectors


def _direction(seed: int, width: int) -> Any:
    vector = np.random.Generator(np.random.SFC64(seed)).standard_normal(width, np.float32)
    return vector / np.linalg.norm(vector)


class Clock:
    """CPU seconds of each phase, and a line every minute."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._last, self._said = time.process_time(), time.monotonic()

    def __call__(self, phase: str, done: int, of: int) -> None:
        now = time.process_time()
        self.seconds[phase] += now - self._last
        self._last = now
        if time.monotonic() - self._said > 60:
            self._said = time.monotonic()
            print(f"{phase} {done:,} of {of:,}", file=sys.stderr, flush=True)


def main() -> None:
    settings = tyro.cli(IdentitiesBenchmark)
    rng = np.random.default_rng(settings.seed)
    rows = np.sort(rng.choice(settings.count, settings.checked, replace=False))
    with tempfile.TemporaryDirectory() as folder:
        vectors = embeddings(Path(folder) / "vectors", settings, rng)
        clock, begin = Clock(), time.monotonic()
        found = cluster(vectors, settings.threshold, clock)
        wall = time.monotonic() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        wanted = exact_pairs(vectors, rows, settings.threshold, clock)
    together = found.labels[wanted.first] == found.labels[wanted.second]
    sizes = np.bincount(found.labels)
    seconds = ", ".join(f"{phase} {spent:.0f}" for phase, spent in clock.seconds.items())
    print(f"{settings.count:,} x {settings.width}, cosine {settings.threshold}")
    print(f"CPU seconds: {seconds} (of {settings.checked:,} rows)")
    print(f"clustering took {wall:.0f} s; peak memory {peak:.2f} GB")
    print(f"{len(found.pairs):,} pairs; clusters {len(sizes):,}, largest {sizes.max():,}")
    print(f"exact: {len(wanted):,} pairs of {settings.checked:,} rows")
    print(f"in one cluster: {together.mean():.5f} of them; by cosine:")
    for low, high in ((0.0, 0.7), (0.7, 0.8), (0.8, 1.1)):
        inside = (wanted.cosine >= low) & (wanted.cosine < high)
        if inside.any():
            print(f"  {low} to {high}: {inside.sum():,} pairs, {together[inside].mean():.5f}")


if __name__ == "__main__":
    main()
