"""Pairs of embeddings that lie close together: found by an approximate index, decided exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from usearch.index import Index

NEIGHBOURS = 32
"""Looked at around each embedding."""
CONNECTIVITY = 16
EXPANSION = 96
"""Of the index (HNSW's M, and efConstruction = efSearch); see docs/pack.md for the recall."""
LENGTH = 127.0
"""Of a unit vector as 8-bit integers. Their dot product is exact in the index's float32."""
SLACK = 0.03
"""Cosine that 8 bits may be off; twice the largest error of a million pairs."""
ROUNDING = 1e-4
"""Cosine that float32 may be off."""
CHUNK = 8192
BLOCK = 1024

Show = Callable[[str, int, int], None]
"""Told what is under way, and how many of how many embeddings are done."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of rows, each once with first < second, ordered; and their cosines, float64."""

    first: Any
    second: Any
    cosine: Any

    def __len__(self) -> int:
        return len(self.first)


def near_pairs(vectors: Any, threshold: float, show: Show) -> Pairs:
    """Pairs of unit vectors [N, D] float32 with a cosine of at least `threshold`.

    HNSW over 8-bit integers proposes each vector's nearest; the cosine in float64 decides. A pair
    may be missed, none is invented. One thread builds the index and integers have no rounding, so
    that every machine gets the same pairs.
    """
    count = len(vectors)
    index = _index(vectors, show)
    found: list[Pairs] = []
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


def _index(vectors: Any, show: Show) -> Any:
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


def _integers(vectors: Any) -> Any:
    return np.rint(vectors * LENGTH).astype(np.int8)


def _decided(vectors: Any, first: Any, second: Any, threshold: float) -> Pairs:
    """The proposed pairs that are as close as asked for."""
    parts = []
    for start in range(0, len(first), CHUNK):
        a, b = first[start : start + CHUNK], second[start : start + CHUNK]
        # float32 times float32 is exact in float64; only the sum rounds
        cosine = np.einsum("ij,ij->i", vectors[a], vectors[b], dtype=np.float64)
        close = (cosine >= threshold) & (a != b)
        low, high = np.minimum(a, b)[close], np.maximum(a, b)[close]
        parts.append(Pairs(low, high, cosine[close]))
    return joined(parts)


def joined(parts: list[Pairs]) -> Pairs:
    """All pairs of some, each once."""
    if not parts:
        nothing = np.empty(0, np.int64)
        return Pairs(nothing, nothing, np.empty(0))
    first = np.concatenate([part.first for part in parts])
    second = np.concatenate([part.second for part in parts])
    cosine = np.concatenate([part.cosine for part in parts])
    order = np.lexsort((second, first))
    first, second, cosine = first[order], second[order], cosine[order]
    new = np.ones(len(first), bool)
    new[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    return Pairs(first[new], second[new], cosine[new])


def exact_pairs(vectors: Any, rows: Any, threshold: float, show: Show) -> Pairs:
    """Every pair of one of `rows` and any other vector; costs len(rows) x N dot products."""
    found: list[Pairs] = []
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
