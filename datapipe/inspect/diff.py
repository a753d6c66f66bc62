"""What two sets of rules make different of the same scores: views, identities, samples."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from datapipe.files import Folder
from datapipe.pack.scored import (
    AppliedRules,
    Batch,
    Columns,
    Verdicts,
    batches,
    sample_index,
    tables,
)
from datapipe.run.info import load_info

FORMAT = 1
BATCH = 20_000
"""Candidates judged at a time; the judge takes some 50 ms to begin."""
EXAMPLES = 5
_COLUMNS = Columns(
    ledger="key, identities, candidate",
    references="* EXCLUDE (embedding, aesthetic_scorer, recogniser, pose_estimator)",
    views="* EXCLUDE (aesthetic_scorer, recogniser, pose_estimator)",
)
Bools = NDArray[np.bool_]
Row = Mapping[str, Any]


@dataclass
class Change:
    """How many things pass by A and by B, and how many of them change sides."""

    a: int = 0
    b: int = 0
    lost: int = 0
    """By A and not by B."""
    gained: int = 0
    """By B and not by A."""

    def add(self, a: Bools, b: Bools) -> None:
        self.a += int(a.sum())
        self.b += int(b.sum())
        self.lost += int((a & ~b).sum())
        self.gained += int((b & ~a).sum())


@dataclass
class YawChange:
    """The views at one yaw."""

    yaw: int
    passed: Change = field(default_factory=Change)
    """Views that no rule rejects."""
    kept: Change = field(default_factory=Change)
    """Those whose identity is kept, too: what goes into shards."""
    lost_by: Counter[str] = field(default_factory=Counter)
    """Of views that pass by A alone, the rule of B that they fail first."""
    gained_from: Counter[str] = field(default_factory=Counter)
    """Of views that pass by B alone, the rule of A that they fail first."""


@dataclass(frozen=True, slots=True)
class ChangedView:
    """A view that changes sides, with all that was measured of its identity."""

    key: str
    identity: int
    yaw: int
    candidate: str
    reference: Row
    views: Sequence[Row]


@dataclass
class Diff:
    """Everything `harmoview rules diff` knows."""

    candidates: int = 0
    yaws: dict[int, YawChange] = field(default_factory=dict)
    identities: Change = field(default_factory=Change)
    samples: Change = field(default_factory=Change)
    lost_samples: list[str] = field(default_factory=list)
    """The first keys."""
    gained_samples: list[str] = field(default_factory=list)
    changed_samples: int = 0
    """Packed by both, with other views or identities."""
    changed_examples: list[str] = field(default_factory=list)
    lost: list[ChangedView] = field(default_factory=list)
    """Drawn evenly from the views that leave; the same ones each time."""
    gained: list[ChangedView] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """JSON types; `docs/inspect.md` describes them."""
        return {
            "format": FORMAT,
            "candidates": self.candidates,
            "samples": {
                **vars(self.samples),
                "lost_examples": self.lost_samples,
                "gained_examples": self.gained_samples,
                "changed": self.changed_samples,
                "changed_examples": self.changed_examples,
            },
            "identities": vars(self.identities),
            "yaws": [
                {
                    "yaw": yaw,
                    "passed": vars(change.passed),
                    "kept": vars(change.kept),
                    "lost_by": dict(change.lost_by.most_common()),
                    "gained_from": dict(change.gained_from.most_common()),
                }
                for yaw, change in sorted(self.yaws.items())
            ],
        }


def rules_diff(run: Folder, a: AppliedRules, b: AppliedRules, views: int) -> Diff:
    """Judge a run's scores by both; `views` is the most that are drawn of each direction.

    Raises UserError when the run cannot be read or lacks scores.
    """
    diff = Diff()
    lost, gained = _Draw(views), _Draw(views)
    with tables(run, load_info(run)) as connection:
        for batch in batches(connection, BATCH, _COLUMNS):
            first = a.decide(batch.references, batch.views)
            second = b.decide(batch.references, batch.views)
            _count_views(diff, batch, first, second)
            _count_samples(diff, batch, first, second)
            (before, after), (left, came) = _passed(first, second), _kept(first, second)
            lost.add(batch, before & ~after, left & ~came)
            gained.add(batch, after & ~before, came & ~left)
    diff.lost, diff.gained = lost.drawn(), gained.drawn()
    return diff


def _passed(*verdicts: Verdicts) -> list[Bools]:
    return [np.asarray(pc.is_null(verdict.views)) for verdict in verdicts]


def _kept(*verdicts: Verdicts) -> list[Bools]:
    return [np.asarray(verdict.kept) for verdict in verdicts]


def _count_views(diff: Diff, batch: Batch, a: Verdicts, b: Verdicts) -> None:
    yaws = batch.views["yaw"].to_numpy()
    passed, kept = _passed(a, b), _kept(a, b)
    for yaw in np.unique(yaws).tolist():
        change = diff.yaws.setdefault(yaw, YawChange(yaw))
        here = yaws == yaw
        change.passed.add(*(one[here] for one in passed))
        change.kept.add(*(one[here] for one in kept))
        change.lost_by.update(_counts(b.views, here & passed[0] & ~passed[1]))
        change.gained_from.update(_counts(a.views, here & passed[1] & ~passed[0]))


def _counts(reasons: Any, where: Bools) -> dict[str, int]:
    counted = pc.cast(reasons, pa.string()).filter(pa.array(where)).value_counts()
    return {entry["values"]: entry["counts"] for entry in counted.to_pylist()}


def _count_samples(diff: Diff, batch: Batch, a: Verdicts, b: Verdicts) -> None:
    size = len(batch.candidates)
    diff.candidates += size
    of_reference = sample_index(batch.candidates, batch.references)
    of_view = sample_index(batch.candidates, batch.views)
    identities = [np.asarray(pc.is_null(verdict.identities)) for verdict in (a, b)]
    diff.identities.add(*identities)
    samples = [np.bincount(of_reference[kept], minlength=size) > 0 for kept in identities]
    diff.samples.add(*samples)
    kept = _kept(a, b)
    other = np.bincount(of_view[kept[0] != kept[1]], minlength=size) > 0
    changed = samples[0] & samples[1] & other
    diff.changed_samples += int(changed.sum())
    keys = batch.candidates["key"]
    _first(diff.lost_samples, keys, samples[0] & ~samples[1])
    _first(diff.gained_samples, keys, samples[1] & ~samples[0])
    _first(diff.changed_examples, keys, changed)


def _first(examples: list[str], keys: Any, where: Bools) -> None:
    """The batches come in the order of their keys."""
    found = np.flatnonzero(where)[: EXAMPLES - len(examples)]
    examples += keys.take(pa.array(found)).to_pylist()


class _Draw:
    """Keeps the views whose hash is smallest: an even draw that needs no second pass.

    Those that change sides themselves come before those that go with their identity.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: list[tuple[bytes, ChangedView]] = []

    def add(self, batch: Batch, alone: Bools, with_identity: Bools) -> None:
        """Consider the views of a batch that are true in one of the two."""
        where = pa.array(alone | with_identity)
        rows = batch.views.select(["key", "identity", "yaw"]).filter(where).to_pylist()
        first = alone[alone | with_identity].tolist()
        ranked = ((_rank(*pair), pair[0]) for pair in zip(rows, first, strict=True))
        near = heapq.nsmallest(self._most, ranked, key=lambda pair: pair[0])
        last = self._held[-1][0] if len(self._held) == self._most else None
        came = [(rank, _view(batch, row)) for rank, row in near if last is None or rank < last]
        self._held = sorted([*self._held, *came], key=lambda pair: pair[0])[: self._most]

    def drawn(self) -> list[ChangedView]:
        """By key, identity and yaw."""
        return sorted(
            (view for _, view in self._held), key=lambda view: (view.key, view.identity, view.yaw)
        )


def _rank(row: Row, alone: bool) -> bytes:
    text = f"{row['key']} {row['identity']} {row['yaw']}"
    return bytes([not alone]) + hashlib.blake2b(text.encode(), digest_size=8).digest()


def _view(batch: Batch, row: Row) -> ChangedView:
    def own(table: pa.Table) -> list[Row]:
        same = pc.equal(table["key"], row["key"])
        if "identity" in table.column_names:
            same = pc.and_(same, pc.equal(table["identity"], row["identity"]))
        rows: list[Row] = table.filter(same).to_pylist()
        return rows

    (candidate,) = own(batch.candidates)
    (reference,) = own(batch.references)
    return ChangedView(
        row["key"],
        row["identity"],
        row["yaw"],
        candidate["candidate"],
        reference,
        own(batch.views),
    )
