"""Glasses: a frame of tubes that is fitted to a head, and lenses that are seen through."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datapipe.errors import check_range
from lora_engine.mesh.anatomy import Anatomy
from lora_engine.mesh.geometry import Array, Light, interpolate, smoothstep

AROUND, SIDES = 64, 8
"""Corners of a lens, and of a tube's cross-section."""
WRAP, TILT = 0.1, 0.08
"""How much farther back the lenses are at their outer and their lower edges."""
NOSE = 0.13
"""Distance from the middle up to which the frame rests on the nose, decimetres."""
REACH = 0.14
"""How far around an arm's place the skull is felt for, decimetres."""
CURVED = 0.9
"""How much a lens's normal turns outwards, by decimetre from its middle."""
DULL = 0.96
"""Share of the light that passes a lens."""
GLEAM = np.array([-0.28, 0.5, 0.82])
"""Where a lens must face to mirror the brightest part of the room."""


@dataclass(frozen=True)
class GlassesStyle:
    """What a pair of glasses looks like; lengths in decimetres. Raises ValueError for none."""

    colour: Array
    """Of the frame, RGB 0..255."""
    wide: float = 0.25
    """Half the width of a lens."""
    high: float = 0.19
    """Half its height."""
    corners: float = 2.6
    """Exponent of a lens's outline: 2 is round, 4 nearly a rectangle."""
    thick: float = 0.018
    """Radius of the rims."""
    gloss: float = 0.5
    """Strength of the frame's highlights, 0..1."""

    def __post_init__(self) -> None:
        check_range(self, "wide", "high", "thick", above=0, option="")
        check_range(self, "corners", least=1, option="")


@dataclass(frozen=True)
class Glasses:
    """A pair of glasses on a head."""

    vertices: Array
    """(n, 3): the frame's tubes."""
    tris: Array
    """(t, 3)."""
    out: Array
    """(n, 3) unit normals."""
    cut: Array
    """(t, 3), nowhere negative: nothing is open."""
    colour: Array
    """RGB 0..255."""
    gloss: float
    lenses: Array
    """(m, 3) vertices."""
    lens_tris: Array
    """(u, 3)."""
    lens_out: Array
    """(m, 3): unit normals, of curved glass."""


def put_on(style: GlassesStyle, eyes: Array, fine: Array, anatomy: Anatomy) -> Glasses:
    """Fit glasses to a head's fine vertices; `eyes` (2, 3) are the centres of its eyeballs."""
    apart, level = abs(eyes[:, 0]).mean(), eyes[:, 1].mean()
    middle = max(1.06 * apart, style.wide + NOSE / 2)
    angle = np.linspace(0, 2 * np.pi, AROUND, endpoint=False)
    x, y = np.cos(angle), np.sin(angle)
    power = 2 / style.corners
    outline = np.stack([np.sign(x) * abs(x) ** power, np.sign(y) * abs(y) ** power], axis=1)
    outline = outline * [style.wide, style.high] + [middle, level - 0.04]
    skull = fine[anatomy.ear < 0.3]
    skull = np.column_stack([abs(skull[:, 0]), skull[:, 1:]])  # halves may be uneven
    front = _front(skull, outline, level) + style.thick
    rim = np.column_stack([outline, front + _bend(outline, level)])
    arm, bridge = _arm(rim, skull, fine, anatomy, style), _bridge(rim, skull, style)
    tubes = [_tube(bridge, style.thick * 0.9)]
    for side in (1, -1):
        mirror = np.array([side, 1, 1])
        tubes += [
            _tube(np.concatenate([rim, rim[:2]]) * mirror, style.thick),
            _tube(arm * mirror, style.thick * 0.85),
        ]
    first = np.cumsum([0, *(len(points) for points, _, _ in tubes)])
    tris = np.concatenate([t + k for (_, _, t), k in zip(tubes, first[:-1], strict=True)])
    lens, lens_out, fan = _lens(rim)
    flip = np.array([-1, 1, 1])
    return Glasses(
        vertices=np.concatenate([points for points, _, _ in tubes]),
        tris=tris.astype(np.int32),
        out=np.concatenate([out for _, out, _ in tubes]),
        cut=np.ones(tris.shape, np.float32),
        colour=style.colour,
        gloss=style.gloss,
        lenses=np.concatenate([lens, lens * flip]),
        lens_tris=np.concatenate([fan, fan + len(lens)]).astype(np.int32),
        lens_out=np.concatenate([lens_out, lens_out * flip]),
    )


def _bend(places: Array, level: float) -> Array:
    """How much nearer than the frame's front it is at places (n, 2)."""
    return np.asarray(TILT * (places[:, 1] - level) - WRAP * places[:, 0] ** 2)


def _front(skull: Array, outline: Array, level: float) -> float:
    """Return how far in front the frame must be to touch neither lids, brows nor cheeks."""
    low, high = outline.min(axis=0) - 0.03, outline.max(axis=0) + 0.03
    low[0] = max(low[0], NOSE)
    inside = (skull[:, 2] > 0) & ((skull[:, :2] > low) & (skull[:, :2] < high)).all(axis=1)
    near = skull[inside]
    return float((near[:, 2] - _bend(near[:, :2], level)).max()) + 0.02


def _bridge(rim: Array, skull: Array, style: GlassesStyle) -> Array:
    """Lead from rim to rim, over the nose."""
    start = rim[np.argmin(abs(rim[:, 1] - rim[:, 1].mean() - 0.35 * style.high) + rim[:, 0])]
    share = np.linspace(-1, 1, 17)
    line = np.column_stack([share * start[0], np.full(17, start[1]), np.full(17, start[2])])
    line[:, 1] += 0.03 * (1 - share**2)
    nose = skull[(skull[:, 0] < 0.04) & (abs(skull[:, 1] - line[8, 1]) < 0.04), 2].max()
    line[:, 2] += max(0.02, nose + 2 * style.thick - start[2]) * (1 - share**2)
    return line


def _arm(rim: Array, skull: Array, fine: Array, anatomy: Anatomy, style: GlassesStyle) -> Array:
    """Lead from the outer rim along the temple to the ear, and down behind it."""
    ear = fine[(anatomy.ear > 0.5) & (fine[:, 0] > 0)]
    top, back = ear[:, 1].max() - 0.02, float(np.quantile(ear[:, 2], 0.35))
    hinge = rim[np.argmax(rim[:, 0] + 0.6 * rim[:, 1])]
    share = np.linspace(0, 1, 24)
    y = hinge[1] + (top - hinge[1]) * smoothstep(share, 0.0, 1.0)
    z = hinge[2] + (back - hinge[2]) * share
    widest = np.array([_half(skull, a, b) for a, b in zip(y, z, strict=True)])
    clear = widest + 1.2 * style.thick
    x = np.maximum(hinge[0] + 0.03 + (clear[-1] - hinge[0] - 0.03) * share, clear)
    x[0] = hinge[0]
    down = np.linspace(0, 1, 8)[1:]
    hook = np.column_stack(
        [np.full(7, x[-1]) - 0.06 * down, top - 0.3 * down**1.6, back - 0.16 * down]
    )
    return np.concatenate([np.column_stack([x, y, z]), hook])


def _lens(rim: Array) -> tuple[Array, Array, Array]:
    """Return vertices, normals and triangles of the glass in a rim, its middle last."""
    centre = (rim.min(axis=0) + rim.max(axis=0)) / 2
    glass = np.concatenate([rim, centre[None]])
    out = np.column_stack([CURVED * (glass - centre)[:, :2], np.ones(len(glass))])
    out -= [0.0, TILT, 0.0]
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    ring = np.arange(AROUND)
    fan = np.stack([ring, (ring + 1) % AROUND, np.full(AROUND, AROUND)], axis=1)
    return glass, out, fan


def _half(skull: Array, y: float, z: float) -> float:
    """Return half the width of the skull at a height and a depth; 0 where there is none."""
    near = skull[np.hypot(skull[:, 1] - y, skull[:, 2] - z) < REACH]
    return float(near[:, 0].max()) if len(near) else 0.0


def _tube(path: Array, radius: float) -> tuple[Array, Array, Array]:
    """Return vertices, normals and triangles of a tube along a path (k, 3)."""
    along = np.gradient(path, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    axis = np.where(abs(along[:, 2:]) < 0.8, [[0.0, 0.0, 1.0]], [[0.0, 1.0, 0.0]])
    side = np.cross(along, axis)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(side, along)
    angle = np.linspace(0, 2 * np.pi, SIDES, endpoint=False)[None, :, None]
    out = np.cos(angle) * side[:, None] + np.sin(angle) * up[:, None]
    vertices = path[:, None] + radius * out
    k = np.arange(len(path) - 1)[:, None] * SIDES
    a, b = k + np.arange(SIDES), k + (np.arange(SIDES) + 1) % SIDES
    quads = np.stack([a, b, b + SIDES, a + SIDES], axis=2).reshape(-1, 4)
    tris = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return vertices.reshape(-1, 3), out.reshape(-1, 3), tris


def frame(
    canvas: Array, worn: Glasses, out: Array, first: int, light: Light, which: Array, weight: Array
) -> None:
    """Draw the frame, with highlights where it faces a light above."""
    at = np.flatnonzero(which.ravel() >= first)
    found = which.ravel()[at] - first
    normal = interpolate(out.astype(np.float32), worn.tris, found, weight.reshape(-1, 3)[at])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    shine = np.clip(normal @ np.array([-0.15, 0.45, 0.88]), 0, 1) ** 24
    colour = worn.colour * light(normal)[:, None] + 150 * worn.gloss * shine[:, None]
    canvas.reshape(-1, 3)[at] = np.minimum(colour, 250)


def lenses(canvas: Array, worn: Glasses, out: Array, which: Array, weight: Array) -> None:
    """Dim what is behind the glass a little, and let it mirror the room."""
    at = np.flatnonzero(which.ravel() >= 0)
    columns = out.astype(np.float32)
    normal = interpolate(columns, worn.lens_tris, which.ravel()[at], weight.reshape(-1, 3)[at])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    gleam = 0.16 * np.clip(normal @ GLEAM, 0, 1) ** 14
    grazing = 0.25 * (1 - np.clip(abs(normal[:, 2]), 0, 1)) ** 3
    share = (gleam + grazing)[:, None]
    flat = canvas.reshape(-1, 3)
    flat[at] = (1 - share) * DULL * flat[at] + share * 235
