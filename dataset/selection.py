"""Which candidates of a run a folder of shards is about: all of them, or some, chosen by person."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from datapipe.errors import check_range
from dataset.judged import CandidateRows


@dataclass(frozen=True)
class PersonLimits:
    """How samples are chosen by the people in them."""

    same_person: float
    """Least cosine of two reference embeddings that count as one person."""
    validation: float | None = None
    """Share of the candidates that goes to validation; None holds nobody out."""
    max_per_identity: int | None = None
    """Samples of a person, at most; None for all."""

    def __post_init__(self) -> None:
        check_range(self, "same_person", "validation", above=0, under=1)
        check_range(self, "max_per_identity", least=1)


GIVEN = pa.schema(
    [
        ("key", pa.string()),
        ("identity", pa.int32()),
        ("from_key", pa.string()),
        ("from_identity", pa.int32()),
    ]
)


@dataclass(frozen=True, eq=False)
class OtherReferences:
    """Who gets whose references."""

    columns: Mapping[str, list[Any]]
    """Of `GIVEN`, a row for each identity that gets another one's."""
    beside: bool = False
    """Whether the sample with its own references is written too."""

    @property
    def table(self) -> pa.Table:
        return pa.Table.from_pydict(dict(self.columns), GIVEN)

    def digest(self) -> str:
        """A hash of it all."""
        text = json.dumps([self.columns, self.beside], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Selection:
    """Some of the candidates, in the order of their keys. The default is all of them."""

    chosen: npt.NDArray[np.bool_] | None = None
    """For each candidate of the run whether it may be packed; None for all."""
    over_cap: int = 0
    """Candidates that pass and are not chosen, as their people have enough samples without them."""
    outside: int = 0
    """Candidates that are not chosen because they belong to the other split."""
    split: str | None = None
    """The split that the chosen ones make, where somebody is held out."""
    described: Mapping[str, Any] = field(default_factory=dict)
    """By which settings they were chosen; JSON types."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """What is put beside the shards, by name."""
    references: OtherReferences | None = None
    """None: everyone has their own."""

    def digest(self) -> str:
        """A hash of all that decides which samples are packed."""
        data = b"all" if self.chosen is None else np.packbits(self.chosen).tobytes()
        given = "" if self.references is None else f" {self.references.digest()}"
        return f"{self.split} {hashlib.sha256(data).hexdigest()}{given}"

    def candidates(self, whole: int) -> int:
        """How many of the run's candidates this is about, those over the cap among them."""
        return whole - self.outside

    def part(self, rows: CandidateRows, begin: int, end: int) -> CandidateRows:
        """The chosen ones among the candidates `begin` to `end` of the run."""
        return rows if self.chosen is None else rows.of(self.chosen[begin:end])


ALL = Selection()


@dataclass(frozen=True, eq=False)
class Chosen:
    """The selections by split, None where nobody is held out, and what was found on the way."""

    selections: Mapping[str | None, Selection]
    described: Mapping[str, Any]
    """Settings and findings, for the manifest; JSON types."""
    report: bytes
    """Whoever is in several videos: a line of JSON for each."""
