"""Who is the same person: embeddings joined where two of them lie close together.

Close pairs are found by an approximate index and decided exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from usearch.index import Index

Vectors = npt.NDArray[np.float32]
"""Embeddings of length 1 [N, D]; zero where there is none."""
Rows = npt.NDArray[np.int64]
"""Numbers of embeddings."""

NEIGHBOURS = 32
"""Neighbours that are looked at around each embedding."""
CONNECTIVITY, EXPANSION = 16, 96
"""HNSW's M, and its efConstruction and efSearch; docs/pack.md has the recall."""
LENGTH = 127.0
"""Length of an embedding as 8-bit integers. Their dot product is exact in the index's float32."""
SLACK = 0.03
"""How far off a cosine by 8 bits may be: twice the largest error of a million pairs."""
ROUNDING = 1e-4
"""How far off a cosine by float32 may be."""
CHUNK, BLOCK = 8192, 1024
"""Embeddings that are handled at a time, and rows that are compared with all others at a time."""

Show = Callable[[str, int, int], None]
"""Told what is under way, and how many of how many embeddings are done."""


@dataclass(frozen=True, slots=True)
class ClosePairs:
    """Pairs of embeddings, each once with first < second, in order; and their cosines."""

    first: Rows
    second: Rows
    cosine: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.first)


def near_pairs(vectors: Vectors, threshold: float, show: Show) -> ClosePairs:
    """Pairs of embeddings with a cosine of at least `threshold`.

    HNSW over 8-bit integers proposes the nearest of each; the cosine in float64 decides. A pair may
    be missed, none is invented. One thread builds the index and integers have no rounding, so that
    every machine gets the same pairs.
    """
    count = len(vectors)
    index = _index(vectors, show)
    found: list[ClosePairs] = []
    for start in range(0, count, CHUNK):
        part = index.search(_integers(vectors[start : start + CHUNK]), NEIGHBOURS)
        keys, distances = np.atleast_2d(part.keys), np.atleast_2d(part.distances)
        near = distances <= 1.0 - (threshold - SLACK) * LENGTH**2
        # rows with fewer neighbours than asked for end in keys that are none
        row, column = np.nonzero(near & (np.isfinite(distances)))
        other = keys[row, column].astype(np.int64)
        row = row.astype(np.int64) + start
        found.append(_decided(vectors, row, other, threshold))
        show("nearest", min(start + CHUNK, count), count)
    return joined(found)


def _index(vectors: Vectors, show: Show) -> Index:
    count, width = vectors.shape
    index = Index(
        ndim=width,
        metric="ip",
        dtype="i8",
        connectivity=CONNECTIVITY,
        expansion_add=EXPANSION,
        expansion_search=EXPANSION,
    )
    for start in range(0, count, CHUNK):
        part = _integers(vectors[start : start + CHUNK])
        index.add(np.arange(start, start + len(part)), part, threads=1)
        show("index", start + len(part), count)
    return index


def _integers(vectors: Vectors) -> npt.NDArray[np.int8]:
    integers: npt.NDArray[np.int8] = np.rint(vectors * LENGTH).astype(np.int8)
    return integers


def _decided(vectors: Vectors, first: Rows, second: Rows, threshold: float) -> ClosePairs:
    """Those of the proposed pairs that are close enough."""
    parts = []
    for start in range(0, len(first), CHUNK):
        a, b = first[start : start + CHUNK], second[start : start + CHUNK]
        # float32 times float32 is exact in float64; only the sum rounds
        cosine = np.einsum("ij,ij->i", vectors[a], vectors[b], dtype=np.float64)
        close = (cosine >= threshold) & (a != b)
        low, high = np.minimum(a, b)[close], np.maximum(a, b)[close]
        parts.append(ClosePairs(low, high, cosine[close]))
    return joined(parts)


def joined(parts: list[ClosePairs]) -> ClosePairs:
    """The pairs of all parts together, each once."""
    if not parts:
        nothing = np.empty(0, np.int64)
        return ClosePairs(nothing, nothing, np.empty(0))
    first = np.concatenate([part.first for part in parts])
    second = np.concatenate([part.second for part in parts])
    cosine = np.concatenate([part.cosine for part in parts])
    order = np.lexsort((second, first))
    first, second, cosine = first[order], second[order], cosine[order]
    new = np.ones(len(first), bool)
    new[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    return ClosePairs(first[new], second[new], cosine[new])


def exact_pairs(vectors: Vectors, rows: Rows, threshold: float, show: Show) -> ClosePairs:
    """Every close pair of one of `rows` and any other embedding; costs len(rows) x N dot
    products."""
    found: list[ClosePairs] = []
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        mine = np.ascontiguousarray(vectors[block])
        for begin in range(0, len(vectors), CHUNK):
            near = mine @ vectors[begin : begin + CHUNK].T >= threshold - ROUNDING
            row, column = np.nonzero(near)
            if len(row):
                found.append(_decided(vectors, block[row], column + begin, threshold))
        show("exact check", start + len(block), len(rows))
    return joined(found)


Labels = npt.NDArray[np.int32]
"""Numbers of clusters or groups."""

LOOSER = 0.1
"""How far under the threshold the cosine of two clusters' centres may lie for their members to be
compared."""
SQUARE = 2048
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
    for start in range(0, len(rows), SQUARE):
        total += vectors[rows[start : start + SQUARE]].sum(axis=0, dtype=np.float64)
    return (total / max(float(np.linalg.norm(total)), 1e-12)).astype(np.float32)


def _closest(vectors: Vectors, one: Rows, other: Rows, threshold: float) -> ClosePairs:
    best, pair = -2.0, (int(one[0]), int(other[0]))
    for start in range(0, len(one), SQUARE):
        rows = one[start : start + SQUARE]
        mine = np.ascontiguousarray(vectors[rows])
        for begin in range(0, len(other), SQUARE):
            columns = other[begin : begin + SQUARE]
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
