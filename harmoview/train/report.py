"""What a run is about to learn from, in words: its samples, and the noise that they will get."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from harmoview.data.encoded import EncodedShards
from harmoview.encode.shard import NO_TEXT
from harmoview.flow import BINS, bin_names
from harmoview.load import boundary_of
from harmoview.train.expert_phase import expert_phases
from harmoview.train.objective import tokens_of
from harmoview.train.settings import TrainSettings


def describe(settings: TrainSettings, data: EncodedShards) -> list[str]:
    """Return lines on the samples by size, people, views and captions, and on the noise levels."""
    return [*_samples(data), *_noise(settings, data)]


def _samples(data: EncodedShards) -> Iterator[str]:
    columns = {name: data.column(name).tolist() for name in ("identities", "views", "caption")}
    total = len(data.keys)
    one = sum(views == 1 for views in columns["views"])
    silent = sum(caption == NO_TEXT for caption in columns["caption"])
    yield (
        f"{total:,} samples: {total - one:,} with views of all their people, {one:,} with the "
        f"frontal one alone; {silent:,} without a caption"
    )
    groups = Counter(zip(_sizes(data), columns["identities"], strict=True))
    for ((frames, height, width), people), count in sorted(groups.items()):
        yield (
            f"  {frames} frames of {width}x{height}, {people} "
            f"{'person' if people == 1 else 'people'}: {count:,} samples"
        )


def _noise(settings: TrainSettings, data: EncodedShards) -> Iterator[str]:
    """Yield a line for each different distribution, which expert, phase and size decide."""
    yield "noise levels, share of the samples by sigma:"
    seen: set[str] = set()
    for part in expert_phases(settings, boundary_of(settings.base)):
        for frames, height, width in sorted(set(_sizes(data))):
            noise = part.noise.at(_tokens(data, frames, height, width))
            shares = [
                f"{name} {noise.share(low, high):.1%}"
                for name, (low, high) in zip(bin_names(), pairwise(BINS), strict=True)
                if noise.low < high and noise.high > low
            ]
            expert = f"{part.expert}-noise expert, " if part.expert else ""
            size = f"{frames} frames of {width}x{height}"
            line = f"  {expert}{size}, shift {noise.shift:.3g}: {', '.join(shares)}"
            if line not in seen:
                yield line
            seen.add(line)


def _sizes(data: EncodedShards) -> list[tuple[int, int, int]]:
    columns = (data.column(name).tolist() for name in ("frames", "height", "width"))
    return list(zip(*columns, strict=True))


def _tokens(data: EncodedShards, frames: int, height: int, width: int) -> int:
    factor = 16 if len(data.example.video) == 48 else 8  # TI2V-5B's VAE, that of the others
    return tokens_of(((frames - 1) // 4 + 1, height // factor, width // factor))
