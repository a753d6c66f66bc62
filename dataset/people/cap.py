"""At most so many samples of a person: the best ones stay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from datapipe.files import Folder
from datapipe.run.info import RunInfo
from datapipe.run.tables import tables
from dataset.judged import RowColumns, candidate_rows, judge_rows, sample_index
from dataset.people.clusters import Clusters
from dataset.people.embeddings import Embeddings
from filters.judge_sql import TableJudge
from filters.rules import Rules

BATCH = 5_000
_COLUMNS = RowColumns(
    ledger="key, identities",
    references="* EXCLUDE (embedding, aesthetic_scorer, recogniser, pose_estimator)",
    views="* EXCLUDE (seed, aesthetic_scorer, recogniser, pose_estimator)",
)


@dataclass(frozen=True, eq=False)
class Passing:
    """What of a run passes the rules, by the places in its `Embeddings`."""

    identities: npt.NDArray[np.bool_]
    """For each identity whether it is kept."""
    views: npt.NDArray[np.float64]
    """For each candidate the number of its views that are kept."""
    cosine: npt.NDArray[np.float64]
    """For each candidate the sum of their identity cosines."""


def passing(run: Folder, info: RunInfo, rules: Rules, embedded: Embeddings) -> Passing:
    """The rules, applied to the whole run.

    Raises UserError when the tables cannot be read or contradict each other.
    """
    samples = len(embedded.keys)
    found = Passing(np.zeros(len(embedded.sample), bool), np.zeros(samples), np.zeros(samples))
    place = row = 0
    judge = TableJudge(rules)
    with tables(run, info) as connection:
        for part in candidate_rows(connection, BATCH, _COLUMNS):
            judged = judge_rows(part, judge)
            count, rows = len(judged.candidates), len(judged.references)
            kept = judged.references["reason"].is_null()
            found.identities[row : row + rows] = kept.to_numpy()
            views = judged.views.filter(judged.views["kept"])
            of = sample_index(judged.candidates, views)
            cosine = np.nan_to_num(views["identity_cosine"].to_numpy().astype(np.float64))
            found.views[place : place + count] = np.bincount(of, minlength=count)
            found.cosine[place : place + count] = np.bincount(of, cosine, minlength=count)
            place, row = place + count, row + rows
    return found


def over_cap(
    embedded: Embeddings, clusters: Clusters, passing: Passing, most: int, threshold: float
) -> npt.NDArray[np.bool_]:
    """The candidates that pass and are too many of their people, as booleans.

    The best samples come first: more passing views, a higher mean cosine, the smaller key. A sample
    is one too many when an identity in it looks directly (cosine of `threshold`) like one of a
    better sample for which `most` samples are already counted. So a chain of look-alikes is not one
    person here, though it is one cluster.
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
    """The face of each person's best sample so far, and how many samples are counted for it."""

    def __init__(self, vectors: npt.NDArray[np.float32], threshold: float) -> None:
        self.samples: list[int] = []
        self._vectors, self._threshold = vectors, threshold
        self._of_cluster: dict[int, tuple[list[int], npt.NDArray[np.float64]]] = {}

    def find(self, cluster: int, row: int) -> int | None:
        """The person whom an identity looks most like; None where it looks like nobody."""
        if cluster not in self._of_cluster:
            return None
        people, faces = self._of_cluster[cluster]
        cosines = faces[: len(people)] @ self._vectors[row].astype(np.float64)
        best = int(cosines.argmax())
        return people[best] if cosines[best] >= self._threshold else None

    def add(self, cluster: int, row: int) -> None:
        """A new person, with the face of an identity."""
        face = self._vectors[row].astype(np.float64)
        people, faces = self._of_cluster.get(cluster, ([], np.empty((1, len(face)))))
        if len(people) == len(faces):  # twice the room, so that few additions copy
            faces = np.concatenate([faces, np.empty_like(faces)])
        faces[len(people)] = face
        people.append(len(self.samples))
        self._of_cluster[cluster] = people, faces
        self.samples.append(1)
