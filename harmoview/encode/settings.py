"""What is encoded and how; the same settings give the same kind of data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from harmoview.encode.buckets import Bucket

Stored = Literal["bfloat16", "float32"]


@dataclass(frozen=True)
class EncodeSettings:
    """How clips, views and captions become tensors."""

    base: str
    """A Wan pipeline in diffusers' layout: a folder or a hub name."""
    vit: str
    """The Qwen2.5-VL vision tower, a folder or a hub name; none leaves MFI's features out."""
    buckets: tuple[str, ...] = ()
    """Sizes of clips, FRAMESxHEIGHTxWIDTH; the default follows the base: wide, tall and square,
    each in two lengths."""
    fps: int | None = None
    """Frames a second; the default is the base's."""
    reference_size: int = 512
    """Side in pixels at which references and views are encoded."""
    vit_layer: int = 15
    """The tower's block after which features are taken."""
    vit_size: int = 448
    """Side in pixels of the frontal reference for the tower."""
    text_length: int = 512
    """Most tokens of a caption."""
    stored: Stored = "bfloat16"
    """Type of the tensors on disk."""
    enlarged: float = 2.0
    """Most times that a clip is enlarged to fill its bucket; a smaller one is skipped."""

    def __post_init__(self) -> None:
        for text in self.buckets:
            Bucket.parse(text)
        for name in ("reference_size", "vit_size", "text_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1")
        if self.fps is not None and self.fps < 1:
            raise ValueError(f"--fps must be at least 1, got {self.fps}")
        if self.enlarged < 1:
            raise ValueError(f"--enlarged must be at least 1, got {self.enlarged}")
        if self.vit_layer < 0:
            raise ValueError(f"--vit-layer must be at least 0, got {self.vit_layer}")

    @property
    def features(self) -> bool:
        """Whether MFI's features are encoded."""
        return self.vit != "none"

    def described(self) -> dict[str, Any]:
        """As JSON has it."""
        described: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return described

    def hash(self) -> str:
        text = json.dumps(self.described(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> EncodeSettings:
        """The inverse of `described`. Raises TypeError, ValueError."""
        values = {name: described[name] for name in (field.name for field in fields(cls))}
        return cls(**{**values, "buckets": tuple(values["buckets"])})
