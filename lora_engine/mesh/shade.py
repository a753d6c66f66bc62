"""Colours of what the z-buffer found: skin, cloth and eyes."""

from __future__ import annotations

import cv2
import numpy as np

from lora_engine.mesh.atlas import WRAP
from lora_engine.mesh.head import Eyes, Garment, Head
from lora_engine.mesh.light import Light
from lora_engine.mesh.raster import Array, interpolate

ROW = 4096  # look-ups are laid out in rows of this many: OpenCV's pictures have a largest side


def _inside(which: Array, weight: Array, first: int, last: int) -> tuple[Array, Array, Array]:
    covered = (which >= first) & (which < last)
    return covered, which[covered] - first, weight[covered]


def _unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6))


def sample(picture: Array, places: Array) -> Array:
    """Bilinear look-up at (n, 2) pixel places."""
    pad = -len(places) % ROW
    grid = np.pad(places.astype(np.float32), ((0, pad), (0, 0))).reshape(-1, ROW, 2)
    found = cv2.remap(picture, grid, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found.reshape(-1, *found.shape[2:])[: len(places)])


def skin(
    canvas: Array,
    head: Head,
    out: Array,
    light: Light,
    which: Array,
    weight: Array,
    first: int,
    last: int,
) -> None:
    """Texture in the light, darker in folds, hair's root colour on the scalp."""
    covered, tri, share = _inside(which, weight, first, last)
    columns = np.concatenate([out, head.cavity[:, None]], axis=1).astype(np.float32)
    parts = interpolate(columns, head.tris, tri, share)
    place = np.einsum("nk,nkc->nc", share, head.place[tri])
    texel = sample(head.texture, place + [WRAP, 0])
    lit = light(_unit(parts[:, :3]))[:, None]
    fold = 1 - 0.6 * parts[:, 3:4] * texel[:, 3:4]
    canvas[covered] = texel[:, :3] * lit * fold


def cloth(
    canvas: Array,
    garment: Garment,
    out: Array,
    light: Light,
    which: Array,
    weight: Array,
    first: int,
    last: int,
) -> None:
    """One colour with a fine weave and a seam along the neckline."""
    covered, tri, share = _inside(which, weight, first, last)
    columns = np.concatenate([out, garment.rest], axis=1).astype(np.float32)
    parts = interpolate(columns, garment.tris, tri, share)
    edge = np.einsum("nk,nk->n", share, garment.cut[tri])
    lit = light(_unit(parts[:, :3]))
    rest = parts[:, 3:]
    folds = 0.03 * np.sin(3 * rest[:, 0] + 5 * rest[:, 1]) * np.sin(7 * rest[:, 1] - 2 * rest[:, 2])
    seam = 1 - 0.12 * np.exp(-(((edge - 0.13) / 0.012) ** 2))
    tone = lit * (1 + folds) * seam
    canvas[covered] = garment.colour.astype(np.float32) * tone[:, None]


def eyeballs(
    canvas: Array,
    eyes: Eyes,
    out: Array,
    light: Light,
    which: Array,
    weight: Array,
    first: int,
    last: int,
) -> None:
    """White, iris and pupil by the angle from the gaze, a shade under the lid, a catch-light."""
    covered, tri, share = _inside(which, weight, first, last)
    columns = np.concatenate([out, eyes.local], axis=1).astype(np.float32)
    parts = interpolate(columns, eyes.tris, tri, share)
    local = parts[:, 3:]
    away = np.hypot(local[:, 0], local[:, 1])
    iris = 1 / (1 + np.exp((away - eyes.iris) / 0.02))
    rim = np.exp(-(((away - eyes.iris) / 0.06) ** 2))
    pupil = 1 / (1 + np.exp((away - 0.42 * eyes.iris) / 0.02))
    spokes = 1 + 0.18 * np.sin(17 * np.arctan2(local[:, 1], local[:, 0])) * (1 - pupil)
    colour = (1 - iris)[:, None] * eyes.white + (iris * spokes)[:, None] * eyes.colour
    colour *= (1 - 0.55 * rim * iris)[:, None]
    colour *= (1 - 0.93 * pupil)[:, None]
    lid = 1 - 0.45 * np.clip((local[:, 1] + 0.1) / 0.5, 0, 1)
    lit = light(_unit(parts[:, :3])) * lid
    shine = np.exp(-(((local[:, 0] + 0.14) ** 2 + (local[:, 1] - 0.17) ** 2) / 0.05**2))
    canvas[covered] = colour * lit[:, None] + 190 * shine[:, None]
