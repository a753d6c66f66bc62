"""Pairs of embeddings that lie close together: found by an approximate index, decided exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
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
