"""Buckets: the few sizes and lengths to which clips are brought, so that they can be batched."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from harmoview.recipes import Recipe

SHAPE = re.compile(r"(\d+)x(\d+)x(\d+)")
LENGTHS = (1.0, 0.5)
"""Of the recipe's frames: a clip too short for the first goes to the second."""


@dataclass(frozen=True, slots=True, order=True)
class Bucket:
    """A size of clip: frames at the recipe's rate, pixels."""

    frames: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.frames < 1 or self.frames % 4 != 1:
            raise ValueError(f"a bucket's frames must be 1 more than a multiple of 4: {self}")
        if self.height < 1 or self.width < 1:
            raise ValueError(f"a bucket's sides must be positive: {self}")

    def __str__(self) -> str:
        return f"{self.frames}x{self.height}x{self.width}"

    @classmethod
    def parse(cls, text: str) -> Bucket:
        """From FRAMESxHEIGHTxWIDTH. Raises ValueError."""
        match = SHAPE.fullmatch(text)
        if match is None:
            raise ValueError(f"a bucket is FRAMESxHEIGHTxWIDTH, like 81x480x832, not {text!r}")
        return cls(*map(int, match.groups()))


def default_buckets(recipe: Recipe, multiple: int) -> tuple[Bucket, ...]:
    """Wide, tall and square clips of the recipe's area, each long and half as long."""
    side = math.isqrt(recipe.height * recipe.width) // multiple * multiple
    sizes = ((recipe.height, recipe.width), (recipe.width, recipe.height), (side, side))
    lengths = [int((recipe.frames - 1) * share) // 4 * 4 + 1 for share in LENGTHS]
    return tuple(Bucket(frames, *size) for frames in lengths for size in sizes)


def choose(
    buckets: Sequence[Bucket], height: int, width: int, seconds: float, fps: float
) -> Bucket | None:
    """The longest bucket that the clip fills, of the shape nearest to its own; None if too short.

    Nearest by the logarithm of the aspect ratio, then by area: what is cropped is least.
    """
    fitting = [b for b in buckets if (b.frames - 1) / fps <= seconds]
    if not fitting:
        return None
    longest = max(bucket.frames for bucket in fitting)
    own = math.log(height / width)

    def distance(bucket: Bucket) -> tuple[float, int]:
        area = abs(bucket.height * bucket.width - height * width)
        return round(abs(math.log(bucket.height / bucket.width) - own), 6), area

    return min((b for b in fitting if b.frames == longest), key=distance)
