"""What is encoded and how; the same settings give the same kind of data."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from datapipe.errors import check_range
from harmoview.recipes import Recipe

SHAPE = re.compile(r"(\d+)x(\d+)x(\d+)")
LENGTHS = (1.0, 0.5)
"""Shares of the recipe's frames; a clip too short for the first goes to the second."""


@dataclass(frozen=True, slots=True, order=True)
class Bucket:
    """One of the few sizes to which clips are brought, so that they can be batched.

    Raises ValueError where Wan's VAE cannot encode such a clip.
    """

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
        """Read FRAMESxHEIGHTxWIDTH. Raises ValueError for anything else."""
        match = SHAPE.fullmatch(text)
        if match is None:
            raise ValueError(f"a bucket is FRAMESxHEIGHTxWIDTH, like 81x480x832, not {text!r}")
        return cls(*map(int, match.groups()))


def default_buckets(recipe: Recipe, multiple: int) -> tuple[Bucket, ...]:
    """List wide, tall and square clips of the recipe's area, each long and half as long.

    `multiple` divides the sides of the square.
    """
    side = math.isqrt(recipe.height * recipe.width) // multiple * multiple
    sizes = ((recipe.height, recipe.width), (recipe.width, recipe.height), (side, side))
    lengths = [int((recipe.frames - 1) * share) // 4 * 4 + 1 for share in LENGTHS]
    return tuple(Bucket(frames, *size) for frames in lengths for size in sizes)


def choose_bucket(
    buckets: Sequence[Bucket], height: int, width: int, seconds: float, fps: float
) -> Bucket | None:
    """Choose the longest bucket that a clip fills, of the shape nearest to the clip's own.

    The nearest aspect ratio, by its logarithm, loses least to cropping; equal ones are told apart
    by area. None where the clip is too short for every bucket.
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


Stored = Literal["bfloat16", "float32"]


@dataclass(frozen=True)
class EncodeSettings:
    """How clips, views and captions become tensors. Raises ValueError for what cannot be."""

    base: str
    """A Wan pipeline in diffusers' layout: a folder or a hub name."""
    vit: str
    """The Qwen2.5-VL vision tower: a folder or a hub name; none leaves MFI's features out."""
    buckets: tuple[str, ...] = ()
    """Sizes of clips, FRAMESxHEIGHTxWIDTH; the default follows the base: wide, tall and square,
    each of them in two lengths."""
    fps: int | None = None
    """Frames a second; the default is the base's."""
    reference_size: int = 512
    """Side in pixels at which references and views are encoded."""
    vit_layer: int = 15
    """The tower's block after which features are taken."""
    vit_size: int = 448
    """Side in pixels at which the tower sees the frontal reference."""
    text_length: int = 512
    """Most tokens of a caption."""
    stored: Stored = "bfloat16"
    """Type of the tensors on disk."""
    enlarged: float = 2.0
    """How many times a clip may be enlarged to fill its bucket; a smaller clip is skipped."""

    windows_per_clip: int = 4
    """Spans of a clip that become samples, at most: the best ones."""

    def __post_init__(self) -> None:
        for text in self.buckets:
            Bucket.parse(text)
        positive = ("reference_size", "vit_size", "text_length", "fps", "enlarged")
        check_range(self, *positive, "windows_per_clip", least=1)
        check_range(self, "vit_layer", least=0)

    @property
    def features(self) -> bool:
        """Whether MFI's features are encoded."""
        return self.vit != "none"

    def described(self) -> dict[str, Any]:
        """Return the settings in JSON's types."""
        described: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return described

    def hash(self) -> str:
        """Return a hash of all settings."""
        text = json.dumps(self.described(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> EncodeSettings:
        """Invert `described`. Raises KeyError, TypeError or ValueError for anything else."""
        values = {name: described[name] for name in (field.name for field in fields(cls))}
        return cls(**{**values, "buckets": tuple(values["buckets"])})
