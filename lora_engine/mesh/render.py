"""Pictures of heads: poses, the camera, and the passes that draw skin, clothes, eyes and hair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit

from datapipe.errors import check_range
from datapipe.record import Image, Pose
from lora_engine.mesh import glasses
from lora_engine.mesh.fit import DISTANCE
from lora_engine.mesh.geometry import (
    Array,
    Light,
    buffers,
    interpolate,
    moved,
    shading,
    smoothstep,
    strands,
    triangles,
)
from lora_engine.mesh.head import PATCH, PIVOT, Eyes, Garment, Head
from lora_engine.mesh.texture import WRAP

SUPERSAMPLE = 2
"""How many times larger than the picture everything is drawn."""
TORSO_YAW = 0.35
"""Share of a head turn in which the shoulders take part."""
TWIST = (-0.1, 0.85)
"""Heights above the neck joint between which the neck twists, decimetres."""
LEVELS = 1024
"""Steps to which the twist of the neck is rounded."""
TILT = 0.6
"""Rise of those heights towards the back, so that the chin turns with the head."""


@dataclass(frozen=True)
class Camera:
    """Where a mesh point comes to lie in the picture."""

    origin: Array
    """(3,): the mesh point that lies at `place`."""
    place: tuple[float, float] = (0.5, 0.5)
    """Shares of the picture's width and height, from the top left."""
    scale: float = 0.26
    """Share of the picture's height that one decimetre takes."""

    def project(self, points: Array, width: int, height: int) -> Array:
        """Project points (n, 3) to pixel x, pixel y and depth (n, 3)."""
        offset = points - self.origin
        zoom = self.scale * height / (1 - offset[:, 2] / DISTANCE)
        x = self.place[0] * width + offset[:, 0] * zoom - 0.5
        y = self.place[1] * height - offset[:, 1] * zoom - 0.5
        return np.stack([x, y, offset[:, 2]], axis=1)


@dataclass(frozen=True)
class HeadShot:
    """One head in one picture."""

    head: Head
    pose: Pose
    camera: Camera
    light: Light


@dataclass(frozen=True)
class Sensor:
    """What a camera adds to a clean picture. Raises ValueError for negative amounts."""

    noise: float = 1.6
    """Sigma of the noise at mid grey, in grey levels."""
    blur: float = 0.35
    """Sigma of the blur, in pixels."""

    def __post_init__(self) -> None:
        check_range(self, "noise", "blur", least=0, option="")

    def __call__(self, picture: Array, rng: np.random.Generator) -> Image:
        """Record a float picture (height, width, 3), 0..255."""
        if self.blur:
            picture = cv2.GaussianBlur(picture, (0, 0), self.blur)
        if self.noise:
            grey = rng.standard_normal((*picture.shape[:2], 1), np.float32)
            tint = 0.5 * rng.standard_normal(picture.shape, np.float32)
            picture = picture + self.noise * (grey + tint) * (0.6 + 0.8 / 255 * picture)
        return np.asarray(np.clip(np.rint(picture), 0, 255), np.uint8)


def rotations(pose: Pose) -> Array:
    """Return rotations from mesh to camera axes, from the torso's to the head's.

    Their shape is (LEVELS + 1, 3, 3).
    """
    share = np.linspace(0, 1, LEVELS + 1)
    yaw = pose.yaw * (TORSO_YAW + (1 - TORSO_YAW) * share)
    y, p, r = (np.radians(angle) for angle in (yaw, -pose.pitch * share, -pose.roll * share))
    zero, one = np.zeros_like(y), np.ones_like(y)
    cy, sy, cp, sp, cr, sr = np.cos(y), np.sin(y), np.cos(p), np.sin(p), np.cos(r), np.sin(r)
    about_y = np.array([[cy, zero, sy], [zero, one, zero], [-sy, zero, cy]])
    about_x = np.array([[one, zero, zero], [zero, cp, -sp], [zero, sp, cp]])
    about_z = np.array([[cr, -sr, zero], [sr, cr, zero], [zero, zero, one]])
    return np.ascontiguousarray(np.einsum("ijn,jkn,kln->nil", about_z, about_y, about_x))


@dataclass(frozen=True)
class Turn:
    """A head turn: the neck twists and bends, the torso follows a little."""

    matrices: Array
    """Those of `rotations`."""
    pivot: Array
    """(3,): where the head turns about."""

    def level(self, points: Array) -> Array:
        """Return which of the matrices moves each point (n, 3) of the unturned head: (n,)."""
        offset = points - (self.pivot - PIVOT)
        share = smoothstep(offset[:, 1] + TILT * offset[:, 2], *TWIST)
        return np.asarray(np.rint(share * LEVELS), np.int32)

    def __call__(self, points: Array, level: Array) -> Array:
        """Turn points (n, 3), each by the matrix of its level (n,)."""
        return np.asarray(moved(points - self.pivot, level, self.matrices) + self.pivot)


def render(shots: Sequence[HeadShot], size: tuple[int, int], background: Array) -> Array:
    """Render a float picture (height, width, 3), 0..255, for a size (width, height).

    `background` is stretched to it; later shots lie over earlier ones.
    """
    wide, high = size[0] * SUPERSAMPLE, size[1] * SUPERSAMPLE
    canvas = cv2.resize(background, (wide, high), interpolation=cv2.INTER_LINEAR)
    canvas = np.ascontiguousarray(canvas, np.float32)
    for shot in shots:
        _draw(canvas, shot)
    return np.asarray(cv2.resize(canvas, size, interpolation=cv2.INTER_AREA))


def _draw(canvas: Array, shot: HeadShot) -> None:
    head, camera, light = shot.head, shot.camera, shot.light
    high, wide = canvas.shape[:2]
    turn = Turn(rotations(shot.pose), head.pivot)
    depth, which, weight = buffers(high, wide)
    found, first = (which, weight), 0
    garment, eyes = head.garment, head.eyes
    parts: list[tuple[Array, int]] = []
    worn = head.glasses
    for part in (head, garment, eyes, *([worn] if worn else ())):
        level = turn.level(part.vertices)
        turned = turn(part.vertices, level)
        corners = camera.project(turned, wide, high)[part.tris]
        triangles(corners, part.cut, depth, which, weight, first)
        parts.append((moved(part.out, level, turn.matrices), first))
        first += len(part.tris)
    skin(canvas, head, *parts[0], light, *found)
    cloth(canvas, garment, *parts[1], light, *found)
    eyeballs(canvas, eyes, *parts[2], light, *found)
    if worn is not None:
        glasses.frame(canvas, worn, *parts[3], light, *found)
        level = turn.level(worn.lenses)
        corners = camera.project(turn(worn.lenses, level), wide, high)[worn.lens_tris]
        _, seen, share = buffers(high, wide)
        open_ = np.ones(worn.lens_tris.shape, np.float32)
        triangles(corners, open_, depth.copy(), seen, share, 0)
        glasses.lenses(canvas, worn, moved(worn.lens_out, level, turn.matrices), seen, share)
    hair = head.hair
    if len(hair.points):
        flat = hair.points.reshape(-1, 3)
        level = turn.level(flat)
        turned = turn(flat, level)
        colours = hair.shaded(turned, moved(hair.out, level, turn.matrices), light)
        placed = camera.project(turned, wide, high).reshape(hair.points.shape)
        strands(placed, colours, hair.width * camera.scale * high, depth, canvas)


FOLD = 0.6
"""How dark the deepest fold of skin is where the portrait does not show it."""
SOFT, CLOTH = 0.7, (0.5, 1.08)
"""Contrast of light on cloth, which scatters it, and the bounds of its brightness."""
SEAM = (0.13, 0.02)
"""Distance of a neckline's seam from the edge, and half its width, decimetres."""


def skin(
    canvas: Array, head: Head, out: Array, first: int, light: Light, which: Array, weight: Array
) -> None:
    """Draw the skin's texture in the light, darker in folds."""
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
    """Draw cloth of one colour, with soft folds and a seam along the neckline."""
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
    """Draw eyes: what the portrait shows of them, and a painted eye where it shows nothing."""
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
    """Paint white, iris, pupil, the lid's shade and a catch-light at places on the unit sphere."""
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
    """Look up places (n, 2) of a small picture, bilinearly."""
    last = len(patch) - 1
    spot = np.clip(place, 0, last - 1e-3)
    j, i = spot.astype(int).T
    u, v = (spot - np.floor(spot)).T[..., None]
    top = patch[i, j] * (1 - u) + patch[i, j + 1] * u
    return np.asarray(top * (1 - v) + (patch[i + 1, j] * (1 - u) + patch[i + 1, j + 1] * u) * v)
