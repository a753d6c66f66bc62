"""Which candidates of a run a folder of shards is about: all of them, or some, chosen by person.

Where a selection says so, samples get the references of other videos (`Given`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from datapipe.errors import check_range
from dataset.judged import CandidateRows, Giver, KeptIdentity, KeptSample, judge_rows, kept_samples
from filters.judge_sql import TableJudge


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


Group = tuple[KeptSample, ...]
"""A sample, or the same one twice: with its own references, then with others."""


class Given:
    """Hands out samples with the references that they get."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, references: OtherReferences, judge: TableJudge
    ) -> None:
        """Takes a connection of `datapipe.run.tables.tables`; copies what belongs to the givers."""
        self._judge, self._beside = judge, references.beside
        self._connection = connection = connection.cursor()  # another's results are being read
        self._table = references.table
        keys = pc.unique(self._table["from_key"])
        connection.register("givers", pa.table({"key": keys}))
        for table, columns in (("ledger", "*"), ("refs", "* EXCLUDE (embedding)"), ("views", "*")):
            connection.execute(
                f"CREATE TEMP TABLE giver_{table} AS SELECT {columns} FROM {table} "
                "SEMI JOIN givers USING (key)"
            )
        connection.unregister("givers")

    def groups(self, samples: Sequence[KeptSample]) -> Iterator[Group]:
        """Each sample with what it gets.

        An identity without a giver, or whose giver does not pass, keeps its own references, but
        for other shots than theirs where there are some (unless the sample with all of its shots
        is written beside).
        """
        keys = pa.array([sample.key for sample in samples], pa.string())
        table = self._table.filter(pc.is_in(self._table["key"], keys))
        wanted = {(row["key"], row["identity"]): row for row in table.to_pylist()}
        kept = self._kept(pc.unique(table["from_key"]))
        for sample in samples:
            others = dict(sample.identities)
            for index, own in sample.identities.items():
                row = wanted.get((sample.key, index))
                if row is not None and row["from_key"] in kept:
                    giver = kept[row["from_key"]]
                    others[index] = _from(own, giver, row["from_identity"])
            if not self._beside:
                yield (replace(sample, identities=_other_shots(others)),)
            elif any(identity.giver is not None for identity in others.values()):
                yield sample, replace(sample, identities=others, again=True)
            else:
                yield (sample,)

    def _kept(self, keys: pa.Array) -> dict[str, KeptSample]:
        """The givers that pass, by key."""
        self._connection.register("wanted", pa.table({"key": keys}))
        rows = CandidateRows(
            *(
                self._connection.sql(
                    f"FROM giver_{table} SEMI JOIN wanted USING (key) ORDER BY {order}"
                ).to_arrow_table()
                for table, order in (
                    ("ledger", "key"),
                    ("refs", "key, identity"),
                    ("views", "key, identity, yaw"),
                )
            )
        )
        self._connection.unregister("wanted")
        return {sample.key: sample for sample in kept_samples(judge_rows(rows, self._judge))}


def _from(own: KeptIdentity, giver: KeptSample, index: int) -> KeptIdentity:
    """An identity with another one's reference and views; it is seen where it is seen."""
    found = giver.identities.get(index)
    if found is None:
        return own
    name = Giver(giver.key, index, giver.row["candidate"])
    return replace(found, windows=own.windows, giver=name)


def _other_shots(identities: Mapping[int, KeptIdentity]) -> Mapping[int, KeptIdentity]:
    """A clip's identities without the windows in shots that own references were cut from.

    The same as given where nothing would be left of somebody who has windows. A shot is left out
    for everybody, so that nobody is in a window without being named.
    """
    shots = [
        around
        for one in identities.values()
        if one.giver is None and one.windows
        for around in _shots_of_pictures(one)
    ]
    left = {
        index: replace(
            one,
            windows=tuple(
                w for w in one.windows if not any(low <= w["shot"] <= high for low, high in shots)
            ),
            other_shots=one.giver is None and bool(one.windows),
        )
        for index, one in identities.items()
    }
    kept = all(left[index].windows or not one.windows for index, one in identities.items())
    return left if shots and kept else identities


def _shots_of_pictures(own: KeptIdentity) -> Iterator[tuple[int, int]]:
    """The first and the last shot that each picture of the clip may be of: the reference, and the
    views that are real.

    That is the shot of the window it lies in; else all from the window before to the one after.
    """
    real = (view["timestamp"] for view in own.views.values() if view["source"] == "real")
    for time in {own.reference["timestamp"], *real}:
        before = [w for w in own.windows if w["start"] <= time] or own.windows[:1]
        after = [w for w in own.windows if time < w["end"]] or own.windows[-1:]
        yield before[-1]["shot"], after[0]["shot"]
