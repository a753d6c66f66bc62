"""Light as nine spherical harmonics of the surface's normal, fixed to the camera.

Light stays where it is when the head turns, so the portrait already shows every normal that any
view can show, and what is learnt from it is enough for all views.
Source: Ramamoorthi and Hanrahan, An efficient representation for irradiance environment maps, 2001.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from lora_engine.mesh.geometry import Array

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
