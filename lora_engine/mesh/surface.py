"""Geometry of quad meshes: normals, smoothing, subdivision as a sparse matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix, diags, vstack

from lora_engine.mesh.raster import Array


def smoothstep(value: Array, low: float | Array, high: float | Array) -> Array:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def triangles_of(quads: Array) -> Array:
    """Each quad as two triangles, (2 f, 3)."""
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)


def normals(vertices: Array, tris: Array) -> Array:
    """Area-weighted unit normals of the vertices."""
    a, b, c = (vertices[tris[:, k]] for k in range(3))
    face = np.cross(b - a, c - a)
    flat = tris.ravel()
    total = np.stack(
        [np.bincount(flat, np.repeat(face[:, k], 3), len(vertices)) for k in range(3)], axis=1
    )
    return np.asarray(total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12))


def edges(quads: Array) -> Array:
    """Unique undirected edges, (e, 2)."""
    pairs = np.concatenate([quads[:, [k, (k + 1) % 4]] for k in range(4)])
    return np.unique(np.sort(pairs, axis=1), axis=0)


def smoothed(values: Array, step: Any, rounds: int) -> Array:
    """Columns averaged with their neighbours by the matrix `step`, a few times."""
    for _ in range(rounds):
        values = np.asarray(step @ values)
    return values


def averaging(quads: Array, count: int) -> Any:
    """Sparse matrix (count, count) that averages each vertex with its neighbours."""
    lines = edges(quads)
    ones = np.ones(len(lines))
    link = coo_matrix((ones, (lines[:, 0], lines[:, 1])), (count, count))
    link = (link + link.T + diags(np.ones(count))).tocsr()
    return diags(1 / np.asarray(link.sum(axis=1)).ravel()) @ link


def subdivision(quads: Array, count: int) -> tuple[Any, Array]:
    """One Catmull-Clark step: a sparse matrix (fine, coarse) and the fine quads.

    The border stays where it is.
    """
    lines = edges(quads)
    key = lines[:, 0] * count + lines[:, 1]
    pairs = np.sort(np.stack([quads, np.roll(quads, -1, axis=1)], axis=2), axis=2)
    edge_of = np.searchsorted(key, pairs[..., 0] * count + pairs[..., 1])
    touch = np.bincount(edge_of.ravel(), minlength=len(lines))
    faces = np.bincount(quads.ravel(), minlength=count)
    valence = np.bincount(lines.ravel(), minlength=count)
    face_point = _rows(quads, count) / 4
    middle = _rows(lines, count) / 2
    around = diags(1 / touch) @ _rows(edge_of, len(lines)).T @ face_point
    free = diags((touch == 2).astype(float))
    still = diags((touch != 2).astype(float))
    edge_point = free @ (middle + around) / 2 + still @ middle
    inner = valence == faces
    near_faces = diags(1 / np.maximum(faces, 1)) @ _rows(quads, count).T @ face_point
    near_edges = diags(1 / np.maximum(valence, 1)) @ _rows(lines, count).T @ middle
    n = np.maximum(valence, 1).astype(float)
    moved = diags(1 / n) @ (near_faces + 2 * near_edges + diags(n - 3))
    keep = diags(inner.astype(float))
    vertex_point = keep @ moved + diags((~inner).astype(float))
    e, f = edge_of + count, np.arange(len(quads)) + count + len(lines)
    parts = [np.stack([quads[:, k], e[:, k], f, e[:, k - 1]], axis=1) for k in range(4)]
    matrix = vstack([csr_matrix(vertex_point), csr_matrix(edge_point), csr_matrix(face_point)])
    return matrix.tocsr(), np.concatenate(parts)


def _rows(index: Array, columns: int) -> Any:
    """Sparse matrix with a one in row i at each of the columns index[i]."""
    rows = np.repeat(np.arange(len(index)), index.shape[1])
    return csr_matrix((np.ones(index.size), (rows, index.ravel())), (len(index), columns))
