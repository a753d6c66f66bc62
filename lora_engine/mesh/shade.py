"""Colours of what the z-buffer found: skin, cloth and eyes."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from lora_engine.mesh.atlas import WRAP
from lora_engine.mesh.head import PATCH, Eyes, Garment, Head
from lora_engine.mesh.light import Light, shading
from lora_engine.mesh.raster import Array, interpolate

FOLD = 0.6  # how dark the deepest fold is where the portrait does not show it
SOFT, CLOTH = 0.7, (0.5, 1.08)  # cloth scatters light: less contrast, within these bounds
SEAM = (0.13, 0.02)  # of a neckline: distance from the edge, half width


def skin(
    canvas: Array, head: Head, out: Array, first: int, light: Light, which: Array, weight: Array
) -> None:
    """Draw the texture in the light, darker in folds."""
    tables = head.tris, head.place, head.texture, out, head.cavity
    _skin(canvas, which, weight, first, *tables, light.weights)


@njit(cache=True)  # type: ignore[untyped-decorator]
def _skin(
    canvas: Array,
    which: Array,
    weight: Array,
    first: int,
    tris: Array,
    place: Array,
    texture: Array,
    out: Array,
    cavity: Array,
    light: Array,
) -> None:
    rows, columns = texture.shape[:2]
    for y in range(which.shape[0]):
        for x in range(which.shape[1]):
            t = which[y, x] - first
            if t < 0 or t >= tris.shape[0]:
                continue
            nx = ny = nz = deep = u = v = 0.0
            for k in range(3):
                share, corner = weight[y, x, k], tris[t, k]
                nx += share * out[corner, 0]
                ny += share * out[corner, 1]
                nz += share * out[corner, 2]
                deep += share * cavity[corner]
                u += share * place[t, k, 0]
                v += share * place[t, k, 1]
            size = max(math.sqrt(nx * nx + ny * ny + nz * nz), 1e-9)
            lit = shading(nx / size, ny / size, nz / size, light)
            u = min(max(u + WRAP, 0.0), columns - 1.001)
            v = min(max(v, 0.0), rows - 1.001)
            i, j = int(v), int(u)
            fv, fu = v - i, u - j
            a, b = (1 - fv) * (1 - fu), (1 - fv) * fu
            c, d = fv * (1 - fu), fv * fu
            unseen = a * texture[i, j, 3] + b * texture[i, j + 1, 3]
            unseen += c * texture[i + 1, j, 3] + d * texture[i + 1, j + 1, 3]
            relit = a * texture[i, j, 4] + b * texture[i, j + 1, 4]
            relit += c * texture[i + 1, j, 4] + d * texture[i + 1, j + 1, 4]
            lit = (1 + relit * (lit - 1)) * (1 - FOLD * deep * unseen)
            for k in range(3):
                colour = a * texture[i, j, k] + b * texture[i, j + 1, k]
                colour += c * texture[i + 1, j, k] + d * texture[i + 1, j + 1, k]
                canvas[y, x, k] = colour * lit


def cloth(
    canvas: Array,
    garment: Garment,
    out: Array,
    first: int,
    light: Light,
    which: Array,
    weight: Array,
) -> None:
    """Draw one colour with soft folds and a seam along the neckline."""
    tables = garment.tris, garment.cut, garment.folds, out, garment.colour
    _cloth(canvas, which, weight, first, *tables, light.weights)


@njit(cache=True)  # type: ignore[untyped-decorator]
def _cloth(
    canvas: Array,
    which: Array,
    weight: Array,
    first: int,
    tris: Array,
    cut: Array,
    folds: Array,
    out: Array,
    colour: Array,
    light: Array,
) -> None:
    for y in range(which.shape[0]):
        for x in range(which.shape[1]):
            t = which[y, x] - first
            if t < 0 or t >= tris.shape[0]:
                continue
            nx = ny = nz = edge = fold = 0.0
            for k in range(3):
                share, corner = weight[y, x, k], tris[t, k]
                nx += share * out[corner, 0]
                ny += share * out[corner, 1]
                nz += share * out[corner, 2]
                fold += share * folds[corner]
                edge += share * cut[t, k]
            size = max(math.sqrt(nx * nx + ny * ny + nz * nz), 1e-9)
            lit = shading(nx / size, ny / size, nz / size, light)
            lit = min(max(1 + SOFT * (lit - 1), CLOTH[0]), CLOTH[1]) * fold
            lit *= 1 - 0.08 * max(0.0, 1 - abs(edge - SEAM[0]) / SEAM[1])
            lit *= 0.75 + 0.25 * min(1.0, edge / 0.03)
            for k in range(3):
                canvas[y, x, k] = colour[k] * lit


def eyeballs(
    canvas: Array, eyes: Eyes, out: Array, first: int, light: Light, which: Array, weight: Array
) -> None:
    """Draw white, iris and pupil by the angle from the gaze, the lid's shade and a catch-light."""
    at = np.flatnonzero((which.ravel() >= first) & (which.ravel() < first + len(eyes.tris)))
    columns = np.concatenate([out, eyes.local], axis=1).astype(np.float32)
    found = which.ravel()[at] - first
    parts = interpolate(columns, eyes.tris, found, weight.reshape(-1, 3)[at])
    normal, local = parts[:, :3], parts[:, 3:]
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    colour = _drawn_eye(eyes, local) * light(normal)[:, None]
    if eyes.patches is not None:
        half = len(eyes.tris) // 2
        place = (local[:, :2] * [1, -1] + 1) / 2 * PATCH - 0.5
        for side, patch in enumerate(eyes.patches):
            mine = found // half == side
            shown = _sample(patch, place[mine])
            front = np.clip(local[mine, 2:] * 4 - 1, 0, 1) * shown[:, 3:]
            colour[mine] = front * shown[:, :3] + (1 - front) * colour[mine]
    canvas.reshape(-1, 3)[at] = colour


def _drawn_eye(eyes: Eyes, local: Array) -> Array:
    """White, iris, pupil, the lid's shade and a catch-light, at places on the unit sphere."""
    away = np.hypot(local[:, 0], local[:, 1])
    iris = 1 / (1 + np.exp((away - eyes.iris) / 0.02))
    rim = np.exp(-(((away - eyes.iris) / 0.06) ** 2))
    pupil = 1 / (1 + np.exp((away - 0.4 * eyes.iris) / 0.02))
    spokes = 1 + 0.18 * np.sin(17 * np.arctan2(local[:, 1], local[:, 0])) * (1 - pupil)
    colour = (1 - iris)[:, None] * eyes.white + (iris * spokes)[:, None] * eyes.colour
    colour *= (1 - 0.55 * rim * iris)[:, None]
    colour *= (1 - 0.93 * pupil)[:, None]
    lid = 1 - 0.5 * np.clip((local[:, 1] + 0.05) / 0.45, 0, 1)
    corner = 1 - 0.25 * np.clip((abs(local[:, 0]) - 0.5) / 0.4, 0, 1)
    shine = np.exp(-(((local[:, 0] + 0.14) ** 2 + (local[:, 1] - 0.17) ** 2) / 0.05**2))
    return np.asarray(colour * (lid * corner)[:, None] + 170 * shine[:, None])


def _sample(patch: Array, place: Array) -> Array:
    """Bilinear look-up at (n, 2) places of a small picture."""
    last = len(patch) - 1
    spot = np.clip(place, 0, last - 1e-3)
    j, i = spot.astype(int).T
    u, v = (spot - np.floor(spot)).T[..., None]
    top = patch[i, j] * (1 - u) + patch[i, j + 1] * u
    return np.asarray(top * (1 - v) + (patch[i + 1, j] * (1 - u) + patch[i + 1, j + 1] * u) * v)
