"""What of a run passes the rules: the samples that are packed, in the order of their keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datapipe.pack.scored import Batch, Verdicts, sample_index
from datapipe.record import Source

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KeptSample:
    """A sample that passes the rules: its ledger row, and what goes into a shard."""

    row: Row
    identities: Mapping[int, KeptIdentity]
    """By the number they have in the run; it is also the one in the shard."""

    @property
    def key(self) -> str:
        return str(self.row["key"])

    @property
    def source(self) -> Source:
        row = self.row
        return Source(
            path=row["source_path"],
            suffix=row["suffix"],
            member=row["source_member"],
            offset=row["source_offset"],
            size=row["source_size"],
        )


@dataclass(frozen=True, slots=True)
class KeptIdentity:
    """An identity that passes: its row, and the rows of its passing views by yaw."""

    reference: Row
    views: Mapping[int, Row]


def kept_samples(batch: Batch, verdicts: Verdicts) -> Iterator[KeptSample]:
    """The samples of a batch that have an identity left."""
    references = batch.references.filter(pc.is_null(verdicts.identities))
    views = batch.views.filter(verdicts.kept)
    kept = np.unique(sample_index(batch.candidates, references))
    rows = batch.candidates.take(pa.array(kept)).to_pylist()
    identities: dict[str, dict[int, dict[int, Row]]] = {}
    for view in views.to_pylist():
        of_key = identities.setdefault(view["key"], {})
        of_key.setdefault(view["identity"], {})[view["yaw"]] = view
    passing: dict[str, dict[int, KeptIdentity]] = {}
    for reference in references.to_pylist():
        key, index = reference["key"], reference["identity"]
        passing.setdefault(key, {})[index] = KeptIdentity(reference, identities[key][index])
    for row in rows:
        yield KeptSample(row, passing[row["key"]])
