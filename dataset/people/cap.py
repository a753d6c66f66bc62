"""At most so many samples of a person: the best ones stay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from datapipe.files import Folder
from datapipe.run.info import RunInfo
from datapipe.run.tables import tables
from dataset.judged import Columns, Decide, batches, sample_index
from dataset.people.clusters import Clusters
from dataset.people.embeddings import Embeddings

BATCH = 5_000
_COLUMNS = Columns(
    ledger="key, identities",
    references="* EXCLUDE (embedding, aesthetic_scorer, recogniser, pose_estimator)",
    views="* EXCLUDE (seed, aesthetic_scorer, recogniser, pose_estimator)",
)


@dataclass(frozen=True, eq=False)
class Passing:
    """What of a run passes the rules, by the places in its `Embeddings`."""

    identities: Any
    """For each identity whether it is kept."""
    views: Any
    """For each candidate its passing views."""
    cosine: Any
    """For each candidate the sum of their identity cosines."""


def passing(run: Folder, info: RunInfo, decide: Decide, embedded: Embeddings) -> Passing:
    """The rules, applied to the whole run. Raises UserError as `batches` does."""
    samples = len(embedded.keys)
    found = Passing(np.zeros(len(embedded.sample), bool), np.zeros(samples), np.zeros(samples))
    place = row = 0
    with tables(run, info) as connection:
        for batch in batches(connection, BATCH, _COLUMNS):
            verdicts = decide(batch.references, batch.views)
            count, rows = len(batch.candidates), len(batch.references)
            found.identities[row : row + rows] = pc.is_null(verdicts.identities).to_numpy(
                zero_copy_only=False
            )
            views = batch.views.filter(verdicts.kept)
            of = sample_index(batch.candidates, views)
            cosine = np.nan_to_num(views["identity_cosine"].to_numpy().astype(np.float64))
            found.views[place : place + count] = np.bincount(of, minlength=count)
            found.cosine[place : place + count] = np.bincount(of, cosine, minlength=count)
            place, row = place + count, row + rows
    return found


def over_cap(
    embedded: Embeddings, clusters: Clusters, passing: Passing, most: int, threshold: float
) -> Any:
    """The candidates that pass and are too many of their people, as booleans.

    The best samples come first: more passing views, a higher mean cosine, the smaller key. One is
    too many when an identity in it looks directly (cosine of `threshold`) like that of a better
    sample which `most` samples are already counted for. So a chain of look-alikes is not one person
    here, though it is one cluster.
    """
    rows_of = _rows_by_sample(embedded, passing)
    members = np.bincount(clusters.labels[passing.identities], minlength=1)
    crowded = members > most
    mean = passing.cosine / np.maximum(passing.views, 1)
    order = np.lexsort((-mean, -passing.views))
    people = _People(embedded.vectors, threshold)
    over = np.zeros(len(embedded.keys), bool)
    for sample in order.tolist():
        rows = [row for row in rows_of(sample) if crowded[clusters.labels[row]]]
        found = [people.find(int(clusters.labels[row]), row) for row in rows]
        if any(people.samples[person] >= most for person in found if person is not None):
            over[sample] = True
            continue
        for row, person in zip(rows, found, strict=True):
            if person is None:
                people.add(int(clusters.labels[row]), row)
            else:
                people.samples[person] += 1
    return over


def _rows_by_sample(embedded: Embeddings, passing: Passing) -> Callable[[int], list[int]]:
    rows = np.flatnonzero(passing.identities)
    samples = embedded.sample[rows]

    def rows_of(sample: int) -> list[int]:
        begin, end = np.searchsorted(samples, [sample, sample + 1])
        return [int(row) for row in rows[begin:end]]

    return rows_of


class _People:
    """The best sample of each person so far, and how many samples are counted for it."""

    def __init__(self, vectors: Any, threshold: float) -> None:
        self.samples: list[int] = []
        self._vectors, self._threshold = vectors, threshold
        self._of_cluster: dict[int, tuple[list[int], Any]] = {}

    def find(self, cluster: int, row: int) -> int | None:
        """Whom an identity looks like most."""
        if cluster not in self._of_cluster:
            return None
        people, faces = self._of_cluster[cluster]
        cosines = faces[: len(people)] @ self._vectors[row].astype(np.float64)
        best = int(cosines.argmax())
        return people[best] if cosines[best] >= self._threshold else None

    def add(self, cluster: int, row: int) -> None:
        face = self._vectors[row].astype(np.float64)
        people, faces = self._of_cluster.get(cluster, ([], np.empty((1, len(face)))))
        if len(people) == len(faces):  # twice the room, so that few additions copy
            faces = np.concatenate([faces, np.empty_like(faces)])
        faces[len(people)] = face
        people.append(len(self.samples))
        self._of_cluster[cluster] = people, faces
        self.samples.append(1)
