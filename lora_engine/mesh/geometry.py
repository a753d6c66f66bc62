"""Geometry: quad meshes, the z-buffers into which triangles and strands are drawn, and light.

Everything runs in one thread and without fast-math, so the same input gives the same bits in every
process. Image axes: x to the right, y down, pixel centres at whole numbers; depth grows towards the
viewer.

Light is nine spherical harmonics of the surface's normal, fixed to the camera. It stays where it is
when the head turns, so the portrait already shows every normal that any view can show, and what is
learnt from it is enough for all views. Source: Ramamoorthi and Hanrahan, An efficient
representation for irradiance environment maps, 2001.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix, diags, vstack

Array = NDArray[Any]
"""An array of any type; docstrings give its shape."""

FAR = -1e9
"""Depth of a pixel in which nothing is drawn yet."""


def smoothstep(value: Array, low: float | Array, high: float | Array) -> Array:
    """Return 0 below `low`, 1 above `high`, and a smooth rise between them."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def triangles_of(quads: Array) -> Array:
    """Split each quad into two triangles, (2 f, 3)."""
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)


def normals(vertices: Array, tris: Array) -> Array:
    """Return unit normals (n, 3) of the vertices, weighted by the area of their triangles."""
    a, b, c = (vertices[tris[:, k]] for k in range(3))
    face = np.cross(b - a, c - a)
    flat = tris.ravel()
    total = np.stack(
        [np.bincount(flat, np.repeat(face[:, k], 3), len(vertices)) for k in range(3)], axis=1
    )
    return np.asarray(total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12))


def edges(quads: Array) -> Array:
    """Return the undirected edges, each once, (e, 2)."""
    pairs = np.concatenate([quads[:, [k, (k + 1) % 4]] for k in range(4)])
    return np.unique(np.sort(pairs, axis=1), axis=0)


def smoothed(values: Array, step: csr_matrix, rounds: int) -> Array:
    """Average columns with their neighbours, `rounds` times by the matrix `step`."""
    for _ in range(rounds):
        values = np.asarray(step @ values)
    return values


def averaging(quads: Array, count: int) -> csr_matrix:
    """Return the matrix (count, count) that averages each vertex with its neighbours."""
    lines = edges(quads)
    ones = np.ones(len(lines))
    link = coo_matrix((ones, (lines[:, 0], lines[:, 1])), (count, count))
    link = (link + link.T + diags(np.ones(count))).tocsr()
    return diags(1 / np.asarray(link.sum(axis=1)).ravel()) @ link


def subdivision(quads: Array, count: int) -> tuple[csr_matrix, Array]:
    """Return the matrix (fine, coarse) of one Catmull-Clark step, and the fine quads.

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


def _rows(index: Array, columns: int) -> csr_matrix:
    """Return the matrix that has a one in row i at each of the columns index[i]."""
    rows = np.repeat(np.arange(len(index)), index.shape[1])
    return csr_matrix((np.ones(index.size), (rows, index.ravel())), (len(index), columns))


def buffers(height: int, width: int) -> tuple[Array, Array, Array]:
    """Return empty buffers: depth (height, width), triangle (-1: none), barycentric weights."""
    depth = np.full((height, width), FAR, np.float32)
    which = np.full((height, width), -1, np.int32)
    return depth, which, np.zeros((height, width, 3), np.float32)


@njit(cache=True)  # type: ignore[untyped-decorator]
def triangles(
    corners: Array, cut: Array, depth: Array, which: Array, weight: Array, first: int
) -> None:
    """Draw `corners` (t, 3, 3: x, y, depth) into the buffers; indices start at `first`.

    A triangle is open where its interpolated `cut` (t, 3) is negative.
    """
    height, width = depth.shape
    for t in range(corners.shape[0]):
        ax, ay, az = corners[t, 0, 0], corners[t, 0, 1], corners[t, 0, 2]
        bx, by, bz = corners[t, 1, 0], corners[t, 1, 1], corners[t, 1, 2]
        cx, cy, cz = corners[t, 2, 0], corners[t, 2, 1], corners[t, 2, 2]
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if abs(area) < 1e-12:
            continue
        x0 = max(0, math.ceil(min(ax, bx, cx)))
        x1 = min(width - 1, math.floor(max(ax, bx, cx)))
        y0 = max(0, math.ceil(min(ay, by, cy)))
        y1 = min(height - 1, math.floor(max(ay, by, cy)))
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                u = ((x - ax) * (cy - ay) - (cx - ax) * (y - ay)) / area
                v = ((bx - ax) * (y - ay) - (x - ax) * (by - ay)) / area
                w = 1.0 - u - v
                if u < -1e-6 or v < -1e-6 or w < -1e-6:
                    continue
                z = w * az + u * bz + v * cz
                if z <= depth[y, x]:
                    continue
                if w * cut[t, 0] + u * cut[t, 1] + v * cut[t, 2] < 0.0:
                    continue
                depth[y, x] = z
                which[y, x] = first + t
                weight[y, x, 0] = w
                weight[y, x, 1] = u
                weight[y, x, 2] = v


@njit(cache=True)  # type: ignore[untyped-decorator]
def interpolate(values: Array, corners: Array, which: Array, weight: Array) -> Array:
    """Interpolate the columns of `values` inside the triangles `which` (m,) by weights (m, 3).

    `corners` (t, 3) names the row of `values` for each corner of each triangle.
    """
    columns = values.shape[1]
    out = np.empty((which.shape[0], columns), np.float32)
    for row in range(which.shape[0]):
        t = which[row]
        a, b, c = corners[t, 0], corners[t, 1], corners[t, 2]
        wa, wb, wc = weight[row, 0], weight[row, 1], weight[row, 2]
        for k in range(columns):
            out[row, k] = wa * values[a, k] + wb * values[b, k] + wc * values[c, k]
    return out


@njit(cache=True)  # type: ignore[untyped-decorator]
def moved(points: Array, level: Array, matrices: Array) -> Array:
    """Multiply each point (n, 3) with the matrix, of (m, 3, 3), that its level (n,) names."""
    out = np.empty(points.shape)
    for i in range(points.shape[0]):
        m = matrices[level[i]]
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        for k in range(3):
            out[i, k] = m[k, 0] * x + m[k, 1] * y + m[k, 2] * z
    return out


@njit(cache=True)  # type: ignore[untyped-decorator]
def strands(points: Array, colours: Array, width: Array, depth: Array, canvas: Array) -> None:
    """Draw polylines (s, k, 3) with per-point colour (s, k, 3) and width in pixels (s, k).

    They are drawn into `canvas` (height, width, 3) and `depth` where they are nearer than it.
    """
    tall, wide = depth.shape
    for s in range(points.shape[0]):
        for k in range(points.shape[1] - 1):
            ax, ay, az = points[s, k, 0], points[s, k, 1], points[s, k, 2]
            bx, by, bz = points[s, k + 1, 0], points[s, k + 1, 1], points[s, k + 1, 2]
            dx, dy = bx - ax, by - ay
            steps = max(1, math.ceil(max(abs(dx), abs(dy))))
            steep = abs(dy) >= abs(dx)
            for i in range(steps):
                t = (i + 0.5) / steps
                half = 0.5 * ((1 - t) * width[s, k] + t * width[s, k + 1])
                x, y, z = ax + t * dx, ay + t * dy, az + t * (bz - az)
                span = x if steep else y
                row = math.floor((y if steep else x) + 0.5)
                low, high = math.ceil(span - half), math.floor(span + half)
                if high < low:
                    low = high = math.floor(span + 0.5)
                for j in range(low, high + 1):
                    px, py = (j, row) if steep else (row, j)
                    if px < 0 or py < 0 or px >= wide or py >= tall or z <= depth[py, px]:
                        continue
                    depth[py, px] = z
                    for c in range(3):
                        canvas[py, px, c] = (1 - t) * colours[s, k, c] + t * colours[s, k + 1, c]


STIFFNESS = 0.02
"""Pull towards even light, for normals about which the portrait says little."""
RANGE = (0.3, 1.7)
"""Bounds of the shading, as multiples of its mean."""


def basis(normals: Array) -> Array:
    """Return the nine harmonics (n, 9) at unit normals (n, 3)."""
    x, y, z = normals[:, 0], normals[:, 1], normals[:, 2]
    rows = [np.ones_like(x), x, y, z, x * y, y * z, x * z, x * x - y * y, 3 * z * z - 1]
    return np.stack(rows, axis=1)


@dataclass(frozen=True)
class Light:
    """The shading of a white surface, 1 on average over the face."""

    weights: Array
    """(9,), of the harmonics."""

    def __call__(self, normals: Array) -> Array:
        """Return the shading (n,) at unit normals (n, 3) in camera axes."""
        out = np.empty(len(normals), np.float32)
        _shade(np.ascontiguousarray(normals, np.float64), self.weights, out)
        return out

    @classmethod
    def from_direction(cls, direction: Array, key: float, sky: float = 0.1) -> Light:
        """Place a lamp of strength `key` (0..1); the rest is even, a little more from above."""
        grid = np.random.default_rng(0).normal(size=(2000, 3))
        grid /= np.linalg.norm(grid, axis=1, keepdims=True)
        grid = grid[grid[:, 2] > 0]
        lamp = np.clip(grid @ (direction / np.linalg.norm(direction)), 0, 1)
        return cls(_solve(grid, 1 - key + 1.45 * key * lamp + sky * grid[:, 1], np.ones(len(grid))))


@njit(cache=True)  # type: ignore[untyped-decorator]
def shading(x: float, y: float, z: float, weights: Array) -> float:
    """Return the shading at one unit normal: the sum over the harmonics of `basis`."""
    total = weights[0] + weights[1] * x + weights[2] * y + weights[3] * z
    total += weights[4] * x * y + weights[5] * y * z + weights[6] * x * z
    total += weights[7] * (x * x - y * y) + weights[8] * (3.0 * z * z - 1.0)
    return float(min(max(total, RANGE[0]), RANGE[1]))


@njit(cache=True)  # type: ignore[untyped-decorator]
def _shade(normals: Array, weights: Array, out: Array) -> None:
    for i in range(len(normals)):
        out[i] = shading(normals[i, 0], normals[i, 1], normals[i, 2], weights)


def estimate(normals: Array, brightness: Array) -> Light:
    """Find the light in which skin with these normals (camera axes) has this brightness.

    Spots, shadows and hair count the less, the further they lie from what the light explains.
    """
    relative = brightness / np.median(brightness)
    trust = np.ones(len(relative))
    for _ in range(5):
        weights = _solve(normals, relative, trust)
        trust = 1 / (1 + ((basis(normals) @ weights - relative) / 0.12) ** 2)
    return Light(weights)


def _solve(normals: Array, values: Array, trust: Array) -> Array:
    rows = basis(normals)
    stiff = STIFFNESS * trust.sum() * np.diag([0, 1, 1, 1, 2, 2, 2, 2, 2])
    return np.linalg.solve((rows * trust[:, None]).T @ rows + stiff, rows.T @ (trust * values))
