"""Which candidates of a run one folder of shards is about: all of them, or some, chosen before.

How a pack chooses samples by the people in them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dataset.judged import Batch, subset


@dataclass(frozen=True)
class ByPerson:
    """How samples are chosen by the people in them."""

    same_person: float
    """Least cosine of two reference embeddings that count as one person."""
    validation: float | None = None
    """Share of the candidates that goes to validation; None for no splits."""
    most: int | None = None
    """Most samples of a person; None for all."""

    def __post_init__(self) -> None:
        if not 0 < self.same_person < 1:
            raise ValueError(f"--same-person must lie between 0 and 1, not {self.same_person:g}")
        if self.validation is not None and not 0 < self.validation < 1:
            raise ValueError(f"--validation must lie between 0 and 1, not {self.validation:g}")
        if self.most is not None and self.most < 1:
            raise ValueError(f"--max-per-identity must be at least 1, not {self.most}")


@dataclass(frozen=True, eq=False)
class Selection:
    """Some of the candidates, in the order of their keys. The default is all of them."""

    chosen: Any = None
    """For each candidate of the run whether it may be packed; None for all."""
    over_cap: int = 0
    """Candidates that pass and are not chosen, because their people have enough samples."""
    outside: int = 0
    """Candidates that are not chosen because they belong to another split."""
    split: str | None = None
    """The split that the chosen ones make, if they are one of several."""
    described: Mapping[str, Any] = field(default_factory=dict)
    """By which settings they were chosen; JSON types."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """What is put beside the shards, by name."""

    def digest(self) -> str:
        """Of all that decides which samples are packed."""
        data = b"all" if self.chosen is None else np.packbits(self.chosen).tobytes()
        return f"{self.split} {hashlib.sha256(data).hexdigest()}"

    def candidates(self, whole: int) -> int:
        """How many of the run's `whole` this is about: those over the cap are, others' are not."""
        return whole - self.outside

    def part(self, batch: Batch, begin: int, end: int) -> Batch:
        """The chosen ones of a batch that holds candidates `begin` to `end`."""
        return batch if self.chosen is None else subset(batch, self.chosen[begin:end])


ALL = Selection()
