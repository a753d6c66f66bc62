"""The samples of a pack with the references of other videos, where a selection says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from dataset.judged import (
    CandidateRows,
    Giver,
    KeptIdentity,
    KeptSample,
    judge_rows,
    kept_samples,
)
from dataset.selection import OtherReferences
from filters.judge_sql import TableJudge

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
