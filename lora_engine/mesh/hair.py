"""Hair: how a portrait wears it, and its growth as strands.

Strands grow from the scalp, are combed over the skull and hang over neck and shoulders.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial import cKDTree

from datapipe.errors import check_range
from datapipe.faces.landmarks import IRISES, LIPS_INNER
from datapipe.record import Image
from lora_engine.mesh.anatomy import Anatomy
from lora_engine.mesh.fit import Fit
from lora_engine.mesh.geometry import Array, Light, normals, smoothstep
from lora_engine.mesh.portrait import CHIN, FOREHEAD, OVAL, Masks

STRANDS, POINTS = 11000, 20
"""Strands of a full head, and points of a strand."""
MEAN_SHADE = 0.78
"""Mean shade of the strands, by which colours are divided: a portrait's have it in them already."""
WIDTH = 0.0085
"""Width of a drawn strand, decimetres; each stands for many hairs."""
BACK = np.array([0, 0.7, -0.6])
"""Where roots are bent that would grow into the face."""
GRAVITY, DOWN = 0.5, np.array([0, -1.0, 0])
NAPE, SIDES, EARS = 1.75, 0.75, 1.3
"""Decimetres below the crown."""


@dataclass(frozen=True)
class HairStyle:
    """How hair is worn; lengths in decimetres. Raises ValueError for what no hair can be."""

    length: float = 0.6
    volume: float = 0.15
    """How far the outer hair stands off the scalp."""
    curl: float = 0.0
    """Radius of the curls."""
    coil: float = 0.5
    """Length of hair that makes one turn of a curl."""
    lie: float = 0.85
    """1: combed flat; 0: stands on end."""
    sweep: tuple[float, float, float] = (0.0, 0.0, -1.0)
    """Where hair on top of the head points."""
    fall: tuple[float, float, float] = (0.0, -0.6, -0.8)
    """Where hair on the sides points."""
    part: float | None = None
    """Place of a parting, to image right of the middle; hair sweeps away from it."""
    density: float = 1.0
    taper: float = 0.0
    """How much shorter hair is at the nape and the temples than on top, 0..1."""

    def __post_init__(self) -> None:
        check_range(self, "length", "volume", least=0, option="")
        check_range(self, "density", least=0, most=1, option="")


@dataclass(frozen=True)
class Hair:
    """Strands ready to draw: s of them, each with k points."""

    points: Array
    """(s, k, 3)."""
    out: Array
    """(s k, 3): unit vectors away from the head."""
    width: Array
    """(s, k), decimetres."""
    colours: Array
    """(s, 3), RGB 0..255."""
    shade: Array
    """(s, k), 0..1: how much light reaches this far into the hair."""

    def shaded(self, turned: Array, out: Array, light: Light) -> Array:
        """Return the colours (s, k, 3) of the turned strands, with the sheen of combed hair."""
        tangent = np.gradient(turned.reshape(self.points.shape), axis=1)
        tangent /= np.maximum(np.linalg.norm(tangent, axis=2, keepdims=True), 1e-9)
        half = np.array([0.0, 0.42, 0.91])  # between the viewer and a light above
        sheen = np.clip(1 - (tangent @ half) ** 2, 0, 1) ** 14
        facing = np.clip(out @ half, 0, 1).reshape(self.shade.shape)
        tone = light(out).reshape(self.shade.shape) * self.shade
        glow = (24 + 0.22 * self.colours)[:, None] * (sheen * facing * self.shade)[..., None]
        return np.ascontiguousarray(self.colours[:, None] * tone[..., None] + glow, np.float32)


def bald() -> Hair:
    """Return no strands."""
    return Hair(
        np.zeros((0, POINTS, 3)),
        np.zeros((0, 3)),
        np.zeros((0, POINTS)),
        np.zeros((0, 3)),
        np.zeros((0, POINTS)),
    )


def grow(
    vertices: Array, anatomy: Anatomy, scalp: Array, style: HairStyle, palette: Array, seed: int
) -> Hair:
    """Grow strands on the fine vertices where `scalp` (n,), 0..1, says that hair grows.

    Each strand's colour is drawn from `palette` (m, 3); `seed` places the strands.
    """
    rng = np.random.default_rng(seed)
    tris = anatomy.triangles
    out = normals(vertices, tris)
    roots, start = _roots(vertices, tris, out, scalp, int(STRANDS * style.density), rng)
    start = _unit(start + np.clip(start[:, 2:], 0, 1) * BACK)
    if not len(roots):
        return bald()
    layer = rng.uniform(0, 1, len(roots)) ** 0.7
    top = vertices[:, 1].max()
    high = smoothstep(roots[:, 1], top - NAPE, top - SIDES)
    length = style.length * rng.uniform(0.8, 1.05, len(roots)) * (1 - style.taper * (1 - high))
    body = anatomy.ear < 0.3  # hair falls over the ears as if they were not there
    path, away = _comb(vertices[body], out[body], roots, start, layer, length, style)
    if style.curl:
        path = _curl(path, away, length, style, rng)
    along = np.linspace(0, 1, POINTS)
    width = WIDTH * np.sqrt(STRANDS / max(1, len(roots))) * (1 - 0.6 * along**3)
    colours = palette[rng.integers(0, len(palette), len(roots))]
    colours = (colours + np.median(palette, axis=0)) / 2  # neighbours are more alike than draws
    colours = colours * np.exp(rng.normal(0, 0.08, (len(roots), 1))) / MEAN_SHADE
    depth = 0.5 + 0.5 * layer[:, None]
    shade = depth * (0.72 + 0.28 * np.minimum(1, along * 2.5))[None]
    return Hair(path, away.reshape(-1, 3), np.repeat(width[None], len(path), 0), colours, shade)


def _roots(
    vertices: Array, tris: Array, out: Array, scalp: Array, count: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Draw places on the scalp, evenly by area, with their normals."""
    share = scalp[tris].mean(axis=1)
    a, b, c = (vertices[tris[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) * np.where(share > 0.25, share, 0)
    if area.sum() < 0.05:
        return np.zeros((0, 3)), np.zeros((0, 3))
    chosen = rng.choice(len(tris), count, p=area / area.sum())
    u, v = np.sqrt(rng.uniform(size=count)), rng.uniform(size=count)
    weight = np.stack([1 - u, u * (1 - v), u * v], axis=1)
    place = np.einsum("nk,nkc->nc", weight, vertices[tris[chosen]])
    normal = np.einsum("nk,nkc->nc", weight, out[tris[chosen]])
    return place, normal / np.linalg.norm(normal, axis=1, keepdims=True)


def _comb(
    vertices: Array,
    out: Array,
    roots: Array,
    start: Array,
    layer: Array,
    length: Array,
    style: HairStyle,
) -> tuple[Array, Array]:
    """Lead each strand along the comb at its own height: paths (s, k, 3), and the ways out."""
    tree = cKDTree(vertices)
    ears = vertices[:, 1].max() - EARS
    hangs = style.length > NAPE
    step = (length / (POINTS - 1))[:, None]
    place, normal, height = roots, start, np.zeros(len(roots))
    way = _unit(start * (1.05 - style.lie) + style.lie * _combed(place, normal, style))
    path, away = [roots], [start]
    for k in range(1, POINTS):
        wanted = 0.02 + style.volume * layer * min(1.0, 5 * k / POINTS)
        below = hangs * smoothstep(ears - place[:, 1], 0.0, 0.3)[:, None]
        lift = np.clip((wanted - height) * 6, -1, 1)[:, None]
        lift = np.where(lift < 0, lift * (1 - below), lift)
        combed = (1 - below) * _combed(place, normal, style) + below * DOWN
        ahead = style.lie * (combed + lift * normal) + (1 - style.lie) * start
        hang = hangs * np.clip((height - 0.1) * 3, 0, 1)[:, None] * style.lie
        way = _unit(0.45 * way + 0.55 * _unit(ahead + hang * GRAVITY * DOWN))
        place = place + step * way
        _, near = tree.query(place)
        normal = out[near]
        height = ((place - vertices[near]) * normal).sum(axis=1)
        push = np.clip(0.015 + 0.03 * layer - height, 0, 0.5)
        place, height = place + push[:, None] * normal, height + push
        path.append(place)
        away.append(_unit(0.6 * normal + 0.4 * start))
    return np.stack(path, axis=1), np.stack(away, axis=1)


def _combed(place: Array, normal: Array, style: HairStyle) -> Array:
    """Return where the comb goes: along the sweep on top of the head, the fall on its sides."""
    top = np.clip((normal[:, 1:2] - 0.25) / 0.5, 0, 1)
    sweep, fall = (np.tile(way, (len(place), 1)) for way in (style.sweep, style.fall))
    if style.part is not None:
        side = np.where(place[:, 0] > style.part, 1.0, -1.0)
        sweep[:, 0] = abs(sweep[:, 0]) * side
        fall[:, 0] = abs(fall[:, 0]) * side
    comb = top * sweep + (1 - top) * fall
    return np.asarray(comb - 0.9 * (comb * normal).sum(axis=1, keepdims=True) * normal)


def _curl(
    path: Array, away: Array, length: Array, style: HairStyle, rng: np.random.Generator
) -> Array:
    """Turn each path into a helix around itself; neighbours curl alike, but not quite."""
    tangent = _unit(np.gradient(path, axis=1))
    side = _unit(np.cross(tangent, away))
    up = np.cross(side, tangent)
    along = np.linspace(0, 1, POINTS)[None]
    lock = 2.5 * np.sin(path[:, :1] * [4.1, 3.3, 5.2]).sum(axis=2)
    phase = lock + rng.normal(0, 0.7, (len(path), 1))
    angle = phase + 2 * np.pi * along * (length / style.coil)[:, None]
    radius = style.curl * rng.uniform(0.6, 1.2, (len(path), 1)) * np.minimum(1, 3 * along)
    turned = side * np.cos(angle)[..., None] + up * np.sin(angle)[..., None]
    return np.asarray(path + radius[..., None] * turned)


def _unit(vectors: Array) -> Array:
    size = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(size, 1e-9))


PALETTE = 3000
"""Colours of hair that are kept, at most about."""
FAR = 24.0
"""Lab distance from the median colour beyond which a pixel is not hair."""
BUN = 0.12
"""Decimetres by which hair stands off more above than beside the head: any more is a bun."""
CURLY = (0.62, 0.4)
"""Coherence of the texture of straight hair and of curly hair."""


def read_hair_style(photo: Image, mask: Masks, fitted: Fit) -> HairStyle:
    """Read volume, length and curl of the hair off a portrait."""
    if mask.bald:
        return HairStyle(length=0.0, density=0.0)
    unit = 1 / fitted.camera.scale  # pixels a decimetre
    points = fitted.landmarks
    volume = _stands_off(mask.person, fitted, unit)
    curly = _curliness(photo, crown(mask, fitted), unit)
    if curly <= 0.5:  # straight hair lies flat: what stands off farther is a bun, or a tree behind
        volume = min(volume, 0.3)
    below = _hangs(mask.hair, points, unit)
    if below > 0.15:
        length = 2.3 + below
        if curly > 0.5:
            return HairStyle(
                length, 0.9 * volume, 0.09, 0.3, 0.55, (1, -0.3, -0.3), (0.3, -1, -0.1), 0.0
            )
        return HairStyle(
            length, 0.8 * volume, 0.02, 1.5, 0.9, (1, -0.3, -0.2), (0.2, -1, -0.1), 0.0
        )
    if curly > 0.5:
        return HairStyle(
            0.06 + 0.9 * volume,
            0.8 * volume,
            0.045 + 0.08 * volume,
            0.1 + 0.14 * volume,
            0.15,
            density=0.55,
            taper=0.25,
        )
    return HairStyle(1.2, 0.9 * volume, 0.01, 1.0, 0.95, taper=0.5)


def _stands_off(person: Array, fitted: Fit, unit: float) -> float:
    """Return how far the person's outline lies outside the skull, in decimetres."""
    skull = fitted.camera.to_pixels(fitted.shape)
    x, eyes = fitted.landmarks[OVAL, 0].mean(), fitted.landmarks[list(IRISES), 1].mean()
    band = person[:, max(0, int(x - 0.3 * unit)) : int(x + 0.3 * unit)].max(axis=1) > 0.5
    above = skull[:, 1].min() - (band.argmax() if band.any() else 0)
    rows = person[max(0, int(eyes - 0.9 * unit)) : max(1, int(eyes - 0.3 * unit))] > 0.5
    width = np.median(rows.sum(axis=1)) if len(rows) else 0.0
    high = (skull[:, 1] < eyes - 0.3 * unit) & (skull[:, 1] > eyes - 0.9 * unit)
    beside = (width - np.ptp(skull[high, 0])) / 2
    if band[0]:  # the picture's edge cuts the hair
        above = beside
    return float(np.clip(min(above, beside + BUN * unit) / unit, 0.05, 0.75))


def _hangs(hair: Array, points: Array, unit: float) -> float:
    """Return how far below the chin hair hangs beside the face without a break, decimetres."""
    left, right = points[OVAL, 0].min(), points[OVAL, 0].max()
    wide, chin, mouth = right - left, points[CHIN, 1], points[LIPS_INNER[0], 1]
    lengths = []
    for a, b in ((left - 0.45 * wide, left), (right, right + 0.45 * wide)):
        band = hair[max(0, int(mouth)) :, max(0, int(a)) : max(1, int(b))] > 0.5
        thick = band.sum(axis=1) > 0.08 * wide
        lengths.append(len(thick) if thick.all() else int(thick.argmin()))
    return float(max(lengths) - (chin - mouth)) / unit


def crown(mask: Masks, fitted: Fit) -> Array:
    """Mark the pixels on top of the head that are surely hair."""
    unit = 1 / fitted.camera.scale
    skull = fitted.camera.to_pixels(fitted.shape)[:, 1].min()
    x, forehead = fitted.landmarks[OVAL, 0].mean(), fitted.landmarks[FOREHEAD, 1]
    near = np.zeros(mask.hair.shape, np.uint8)
    top, left = max(0, int(skull - 0.3 * unit)), max(0, int(x - 0.75 * unit))
    near[top : max(0, int(forehead + 0.25 * unit)), left : max(0, int(x + 0.75 * unit))] = 1
    sure = cv2.erode((mask.hair > 0.9).astype(np.uint8), np.ones((3, 3), np.uint8))
    return np.asarray(near & sure) > 0


def _curliness(photo: Image, sure: Array, unit: float) -> float:
    """Return 0 for strands that run side by side, 1 for curls, by the texture's structure."""
    if sure.sum() < 200:
        return 0.0
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(np.float32)
    gx, gy = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    sigma = 0.06 * unit
    xx, yy, xy = (cv2.GaussianBlur(g, (0, 0), sigma) for g in (gx * gx, gy * gy, gx * gy))
    coherence = np.hypot(xx - yy, 2 * xy) / np.maximum(xx + yy, 1e-3)
    weight = (xx + yy)[sure]
    mean = float((coherence[sure] * weight).sum() / weight.sum())
    return float(np.clip((CURLY[0] - mean) / (CURLY[0] - CURLY[1]), 0, 1))


def read_hair_palette(photo: Image, mask: Masks, fitted: Fit) -> Array:
    """Read the colours (m, 3) of the hair, smoothed a little to leave the camera's noise out."""
    soft = cv2.GaussianBlur(photo, (0, 0), 1.5)
    found = soft[crown(mask, fitted)]
    if len(found) < 50:
        return mask.hair_colour[None]
    lab = cv2.cvtColor(found[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    colours = found[np.linalg.norm(lab - np.median(lab, axis=0), axis=1) < FAR].astype(float)
    return np.asarray(colours[:: max(1, len(colours) // PALETTE)])
