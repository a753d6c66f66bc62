"""Who is the same person: embeddings joined where two of them lie close together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dataset.people.neighbours import (
    NEIGHBOURS,
    ClosePairs,
    Rows,
    Show,
    Vectors,
    exact_pairs,
    joined,
    near_pairs,
)

Labels = npt.NDArray[np.int32]
"""Numbers of clusters or groups."""

LOOSER = 0.1
"""How far under the threshold the cosine of two clusters' centres may lie for their members to be
compared."""
BLOCK = 2048
"""Embeddings that are compared with as many others at a time."""


@dataclass(frozen=True, slots=True)
class Clusters:
    """The identities of a run, joined by looks."""

    labels: Labels
    """For each identity the number of its cluster."""
    pairs: ClosePairs
    """The pairs that were found; directly or through others they join the clusters."""

    def with_exact(self, vectors: Vectors, rows: Rows, threshold: float, show: Show) -> Clusters:
        """These clusters, joined also by every close pair that one of `rows` is in."""
        pairs = joined([self.pairs, exact_pairs(vectors, rows, threshold, show)])
        return Clusters(components(len(vectors), pairs.first, pairs.second), pairs)


def cluster(vectors: Vectors, threshold: float, show: Show) -> Clusters:
    """Join the embeddings whose cosine is at least `threshold`, directly or through others.

    A person with more than `NEIGHBOURS` videos may come out as several clusters, each from one
    dense source; so clusters of that size are compared once more with each other.
    """
    pairs = near_pairs(vectors, threshold, show)
    while True:
        labels = components(len(vectors), pairs.first, pairs.second)
        bridges = _bridges(vectors, labels, threshold, show)
        if not len(bridges):
            return Clusters(labels, pairs)
        pairs = joined([pairs, bridges])


def components(count: int, first: Rows, second: Rows) -> Labels:
    """For each of `count` things the number of its connected component; components are numbered
    in the order of their first members."""
    ones = np.ones(len(first), np.int8)
    graph = coo_array((ones, (first, second)), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    _, begins, labels = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(begins), np.int32)
    rank[np.argsort(begins)] = np.arange(len(begins))
    return rank[labels]


def _bridges(vectors: Vectors, labels: Labels, threshold: float, show: Show) -> ClosePairs:
    """The closest pair of every two large clusters, where it is close enough."""
    large = np.flatnonzero(np.bincount(labels, minlength=1) >= NEIGHBOURS)
    if len(large) < 2:
        return joined([])
    order = np.argsort(labels, kind="stable")
    begins = np.searchsorted(labels[order], large)
    ends = np.searchsorted(labels[order], large, side="right")
    members = [order[begin:end] for begin, end in zip(begins, ends, strict=True)]
    centres = np.stack([_centre(vectors, rows) for rows in members])
    near = near_pairs(centres, threshold - LOOSER, show)
    found = [
        pair
        for one, other in zip(near.first, near.second, strict=True)
        if len(pair := _closest(vectors, members[one], members[other], threshold))
    ]
    return joined(found)


def _centre(vectors: Vectors, rows: Rows) -> Vectors:
    total = np.zeros(vectors.shape[1])
    for start in range(0, len(rows), BLOCK):
        total += vectors[rows[start : start + BLOCK]].sum(axis=0, dtype=np.float64)
    return (total / max(float(np.linalg.norm(total)), 1e-12)).astype(np.float32)


def _closest(vectors: Vectors, one: Rows, other: Rows, threshold: float) -> ClosePairs:
    best, pair = -2.0, (int(one[0]), int(other[0]))
    for start in range(0, len(one), BLOCK):
        rows = one[start : start + BLOCK]
        mine = np.ascontiguousarray(vectors[rows])
        for begin in range(0, len(other), BLOCK):
            columns = other[begin : begin + BLOCK]
            cosines = mine @ vectors[columns].T
            place = int(cosines.argmax())
            if cosines.flat[place] > best:
                row, column = divmod(place, len(columns))
                best, pair = float(cosines.flat[place]), (int(rows[row]), int(columns[column]))
    first, second = min(pair), max(pair)
    cosine = float(np.dot(vectors[first].astype(np.float64), vectors[second].astype(np.float64)))
    if cosine < threshold:
        return joined([])
    return ClosePairs(np.array([first]), np.array([second]), np.array([cosine]))
