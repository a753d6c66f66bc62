"""The samples of a pack with the references of other videos, where a selection says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
        """Each sample with what it gets; an identity whose giver does not pass keeps its own."""
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
            other = replace(sample, identities=others)
            if all(identity.giver is None for identity in others.values()):
                yield (sample,)
            elif self._beside:
                yield sample, replace(other, again=True)
            else:
                yield (other,)

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
