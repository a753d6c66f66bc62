"""Z-buffers in numba: triangles, hair strands, and interpolation over what they cover.

No fast-math and no threads: the same input gives the same bits, in every process. Image axes: x to
the right, y down, pixel centres at whole numbers; depth grows towards the viewer.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]

FAR = -1e9


def buffers(height: int, width: int) -> tuple[Array, Array, Array]:
    """Empty depth (height, width), triangle index (-1: none) and barycentric weights."""
    depth = np.full((height, width), FAR, np.float32)
    which = np.full((height, width), -1, np.int32)
    return depth, which, np.zeros((height, width, 3), np.float32)


@njit(cache=True)  # type: ignore[untyped-decorator]
def triangles(
    corners: Array, cut: Array, depth: Array, which: Array, weight: Array, first: int
) -> None:
    """Draw `corners` (t, 3, 3: x, y, depth) into the buffers; indices start at `first`.

    Where the interpolated `cut` (t, 3) is negative, the triangle is open.
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
    """Columns of per-corner `values` at (m,) triangles `which` with (m, 3) weights.

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
    """Each point (n, 3) times the matrix (m, 3, 3) that its level (n,) names."""
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

    `canvas` (height, width, 3) and `depth` are drawn into where the strand is nearer.
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
