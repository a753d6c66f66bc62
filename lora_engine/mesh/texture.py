"""The skin's texture: its layout, and a portrait painted into it.

The layout is the same for every person: directions from the middle of the head. Columns are the
angle around the vertical axis (the face in the middle, the back of the head at both borders), rows
the elevation. A person's left and right are mirror images, and a texel is the same place on every
face, so textures of different people can be mixed.

A portrait gives the texture where it shows skin; everywhere else its colours are continued.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from datapipe.record import Image
from lora_engine.mesh.anatomy import Anatomy, Phenotype, shading_normals
from lora_engine.mesh.fit import Fit
from lora_engine.mesh.geometry import (
    Array,
    Light,
    buffers,
    estimate,
    interpolate,
    normals,
    smoothstep,
    triangles,
)
from lora_engine.mesh.portrait import Masks

WIDTH, HEIGHT = 1152, 800
"""Texels."""
WRAP = 144
"""Columns repeated at both borders."""
CENTRE = np.array([0.0, 7.1, 0.45])
"""The middle of the head, from which directions are taken."""
FRONT = 0.6
"""How unevenly the columns are spread: at 0 by even angles; the nearer to 1, the more show the
face."""
RELIT = 0.35, 0.9
"""Share of the scene's light in the middle of the face, where the portrait's own relief is kept,
and on its sides."""
SIDE = 0.3, 0.65
"""Decimetres from the middle between which that share changes."""
LOW, HIGH = -88.0, 90.0
"""Elevation of the last and the first row, degrees."""


class Atlas:
    """Which place of the mesh each texel shows, and where in the texture each triangle lies.

    `place` (t, 3, 2) are the texels of the triangles' corners, which may lie past a border; `known`
    (HEIGHT, WIDTH) says which texels show the mesh; `relit` (HEIGHT, WIDTH), 0..1, is the share of
    a texel's light that is the scene's and not the portrait's own.
    """

    def __init__(self, anatomy: Anatomy) -> None:
        self.tris = anatomy.triangles
        fine = anatomy.refine(anatomy.mean(Phenotype()))
        offset = fine - CENTRE
        around = np.arctan2(offset[:, 0], offset[:, 2])
        radius = np.linalg.norm(offset, axis=1)
        up = np.degrees(np.arcsin(offset[:, 1] / radius))
        corner = around[self.tris]
        first = corner[:, :1]
        corner = first + np.remainder(corner - first + np.pi, 2 * np.pi) - np.pi
        corner = corner + FRONT * np.sin(corner)
        column = (corner / (2 * np.pi) + 0.5) * WIDTH - 0.5
        row = ((HIGH - up) / (HIGH - LOW) * (HEIGHT - 1))[self.tris]
        self.place = np.stack([column, row], axis=2)
        self._vertex = np.zeros((len(fine), 2))
        self._vertex[self.tris.ravel()] = np.remainder(self.place.reshape(-1, 2), [WIDTH, HEIGHT])
        depth, which, weight = buffers(HEIGHT, WIDTH)
        open_everywhere = np.ones(self.tris.shape)
        for shift in (-WIDTH, 0, WIDTH):
            corners = np.dstack([self.place + np.array([shift, 0]), radius[self.tris]])
            triangles(corners, open_everywhere, depth, which, weight, 0)
        self.known = which >= 0
        self._which, self._weight = which[self.known], weight[self.known]
        side = smoothstep(self.spread(abs(fine[:, :1]))[..., 0], *SIDE)
        self.relit = np.asarray(RELIT[0] + (RELIT[1] - RELIT[0]) * side, np.float32)

    def spread(self, values: Array) -> Array:
        """Spread columns of the fine vertices to (HEIGHT, WIDTH, columns), with 0 off the mesh."""
        out = np.zeros((HEIGHT, WIDTH, values.shape[1]), np.float32)
        columns = np.ascontiguousarray(values, np.float32)
        out[self.known] = interpolate(columns, self.tris, self._which, self._weight)
        return out

    def on_vertices(self, picture: Array) -> Array:
        """Read a picture (HEIGHT, WIDTH) of the atlas at the fine vertices."""
        column, row = np.rint(self._vertex).astype(int).T
        return np.asarray(picture[row.clip(0, HEIGHT - 1), column % WIDTH])


def wrapped(texture: Array) -> Array:
    """Repeat the texture's borders, for look-ups past them."""
    return np.ascontiguousarray(np.concatenate([texture[:, -WRAP:], texture, texture[:, :WRAP]], 1))


FACING = np.array([0.15, 0.55])
"""The z of a normal up to which the portrait is not used, and from which it is used in full."""
MIDDLE = np.array([0.02, 0.2])
"""The same in the middle of the face, so that the sides of the nose are the portrait's."""
RIM = (0.3, 0.55)
"""Decimetres from the middle between which MIDDLE gives way to FACING."""
SMALL = 4
"""How many times smaller the smooth continuation is computed."""
EAR = np.array([0.03, 0.1, 0.1], np.float32)
"""How much of red, green and blue ears lack: they are a little darker and redder."""
BUFFER, SLACK = 384, 0.06
"""Longest side of the z-buffer of the portrait, and its tolerance of depth."""
LINE_DEPTH = (-1.25, -1.05, -0.95, -0.62, -0.42, -0.25, -0.05)
"""The standard hairline in profile, from behind to the front: depth relative to the eyes."""
LINE_HEIGHT = (-0.75, -0.62, -0.25, -0.1, -0.05, 0.30, 0.62)
"""Its height above the eyes, at these depths."""


@dataclass(frozen=True)
class Skin:
    """What one portrait says about skin and light."""

    albedo: Array
    """(HEIGHT, WIDTH, 3), RGB 0..255, as the skin would look in even light."""
    scalp: Array
    """(HEIGHT, WIDTH), 0..1: where hair grows."""
    light: Light
    seen: Array
    """(HEIGHT, WIDTH), 0..1: the share of each texel that is the portrait's own."""


def paint(photo: Image, mask: Masks, fit: Fit, anatomy: Anatomy, atlas: Atlas) -> Skin:
    """Unwrap the portrait into the atlas and complete it."""
    aligned = anatomy.refine(fit.aligned)
    out = normals(aligned, anatomy.triangles) @ fit.camera.rotation.T
    soft = shading_normals(aligned, anatomy) @ fit.camera.rotation.T
    pixels = fit.camera.to_pixels(aligned)
    rim = smoothstep(abs(aligned[:, 0]), *RIM)[:, None]
    low, high = ((1 - rim) * MIDDLE + rim * FACING).T
    seen = smoothstep(out[:, 2], low, high) * _visible(pixels, anatomy.triangles, photo.shape)
    seen *= 1 - anatomy.ear
    hairline = standard_hairline(anatomy, fit)
    columns = [pixels[:, :2], soft, seen[:, None], hairline[:, None], aligned[:, 1:2]]
    maps = atlas.spread(np.concatenate(columns, axis=1))
    place = np.ascontiguousarray(maps[..., :2])
    colour = _look_up(photo.astype(np.float32), place)
    skin, hair, oval = (_look_up(m, place) for m in (mask.skin, mask.hair, mask.oval))
    chin = fit.aligned[anatomy.chin, 1]
    bare = skin * smoothstep(maps[..., 7], chin - 0.02, chin + 0.15)
    trust = maps[..., 5] * np.maximum(oval, bare)
    scalp = _scalp(maps, hair, mask, fit, anatomy)
    light, shading = _light(colour, maps[..., 2:5], trust * skin, atlas)
    flat = np.clip(colour / shading[..., None], 0, 255)
    albedo = _complete(flat, trust, trust * skin, mask.skin_colour)
    albedo *= 1 - atlas.spread(anatomy.ear[:, None]) * EAR
    return Skin(albedo, scalp, light, trust)


def standard_hairline(anatomy: Anatomy, fit: Fit) -> Array:
    """Return where hair usually grows on a head of this size: (fine,), 0..1."""
    fine = anatomy.refine(fit.shape)
    eyes = np.concatenate([fit.shape[eye] for eye in anatomy.eyes])
    up = fine[:, 1] - eyes[:, 1].mean()
    back = fine[:, 2] - eyes[:, 2].mean()
    line = np.interp(back, LINE_DEPTH, LINE_HEIGHT)
    return np.asarray(smoothstep(up - line, -0.06, 0.06) * (1 - anatomy.ear))


def _scalp(maps: Array, hair: Array, mask: Masks, fit: Fit, anatomy: Anatomy) -> Array:
    """Take the hairline from the portrait where it is to be seen, elsewhere the standard one."""
    if mask.bald:
        return np.zeros((HEIGHT, WIDTH), np.float32)
    eyes = np.concatenate([fit.shape[eye] for eye in anatomy.eyes])[:, 1].mean()
    shows = maps[..., 5] * smoothstep(maps[..., 7] - eyes, 0.15, 0.4)
    scalp = maps[..., 6] + shows * (hair - maps[..., 6])
    return np.asarray(cv2.GaussianBlur(scalp, (0, 0), 2.0))


def _light(colour: Array, out: Array, trust: Array, atlas: Atlas) -> tuple[Light, Array]:
    """Find the portrait's light, and its shading of every texel."""
    bright = colour.mean(axis=2)
    sure = atlas.known & (trust > 0.6)
    step = max(1, int(sure.sum()) // 6000)
    normal = out / np.maximum(np.linalg.norm(out, axis=2, keepdims=True), 1e-6)
    light = estimate(normal[sure][::step].astype(float), bright[sure][::step].astype(float))
    shading = np.ones((HEIGHT, WIDTH), np.float32)
    shading[atlas.known] = 1 + atlas.relit[atlas.known] * (light(normal[atlas.known]) - 1)
    return light, shading


def _complete(colour: Array, trust: Array, sure: Array, skin: Array) -> Array:
    """Fill in what is not known: from the other side, then by smooth skin led on from the face."""
    other = trust[:, ::-1] * (1 - smoothstep(trust, 0.2, 0.8)) * 0.5
    weight = trust + other
    own = colour * trust[..., None] + colour[:, ::-1] * other[..., None]
    own /= np.maximum(weight, 1e-3)[..., None]
    both = np.maximum(sure, 0.5 * sure[:, ::-1])
    filled = _push_pull(own * both[..., None], both, skin) + _grain(own, sure)
    share = np.clip(weight, 0, 1)[..., None]
    return np.asarray(np.clip(share * own + (1 - share) * filled, 0, 255), np.float32)


def _push_pull(weighted: Array, weight: Array, last: Array) -> Array:
    """Continue weighted colours smoothly; the texture closes around the head."""
    size = (WIDTH // SMALL, HEIGHT // SMALL)
    colour = cv2.resize(weighted, size, interpolation=cv2.INTER_AREA)
    share = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
    pad = size[0] // 2
    colour = np.pad(colour, ((0, 0), (pad, pad), (0, 0)), "wrap")
    levels = [(colour, np.pad(share, ((0, 0), (pad, pad)), "wrap"))]
    for _ in range(7):
        colour, share = levels[-1]
        levels.append((cv2.pyrDown(colour), cv2.pyrDown(share)))
    fill = np.broadcast_to(last, levels[-1][0].shape).astype(np.float32)
    for colour, share in reversed(levels):
        fill = cv2.resize(fill, (share.shape[1], share.shape[0]), interpolation=cv2.INTER_CUBIC)
        known = smoothstep(share, 0.02, 0.35)[..., None].astype(np.float32)
        fill = known * colour / np.maximum(share, 1e-3)[..., None] + (1 - known) * fill
    smooth = cv2.GaussianBlur(fill, (0, 0), 2.0)[:, pad:-pad]
    return np.asarray(cv2.resize(smooth, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC))


def _grain(colour: Array, trust: Array) -> Array:
    """Make fine grey noise, as strong as the skin's own fine detail."""
    sure = trust > 0.9
    if not sure.any():
        return np.zeros((HEIGHT, WIDTH, 1), np.float32)
    grey = colour.mean(axis=2)
    fine = grey - cv2.GaussianBlur(grey, (0, 0), 3)
    strength = min(6.0, 1.2 * float(np.median(abs(fine[sure]))))
    noise = np.random.default_rng(0).normal(size=(HEIGHT, WIDTH)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 1.2)
    elevation = np.linspace(HIGH, LOW, HEIGHT)
    even = smoothstep(abs(elevation), 70, 35)[:, None]  # near the poles texels are stretched
    return np.asarray(even * noise / noise.std() * strength, np.float32)[..., None]


def _look_up(picture: Array, place: Array) -> Array:
    return np.asarray(
        cv2.remap(picture, place, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )


def _visible(pixels: Array, tris: Array, shape: tuple[int, ...]) -> Array:
    """Whether the portrait's camera sees each fine vertex."""
    scale = BUFFER / max(shape[:2])
    height, width = (int(side * scale) for side in shape[:2])
    points = pixels * [scale, scale, 1]
    depth, which, weight = buffers(height, width)
    triangles(points[tris], np.ones(tris.shape), depth, which, weight, 0)
    places = points[:, None, :2].astype(np.float32)
    nearest = cv2.remap(depth, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(pixels[:, 2] > nearest[:, 0] - SLACK)
