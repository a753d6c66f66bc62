"""The texture's layout: directions from the middle of the head, the same for every person.

Columns are the angle around the vertical axis (the face in the middle, the back of the head at both
borders), rows the elevation. A person's left and right are mirror images, and a texel is the same
place on every face, so that textures of different people can be mixed.
"""

from __future__ import annotations

import numpy as np

from lora_engine.mesh.anatomy import Anatomy, Phenotype
from lora_engine.mesh.raster import Array, buffers, interpolate, triangles
from lora_engine.mesh.surface import smoothstep

WIDTH, HEIGHT = 1152, 800
WRAP = 144  # columns repeated at both borders
CENTRE = np.array([0.0, 7.1, 0.45])
FRONT = 0.6  # 0: columns are even angles; towards 1, more of them show the face
RELIT = 0.35, 0.9  # in the middle of the face, where a portrait shows relief; and on its sides
SIDE = 0.3, 0.65  # decimetres from the middle between which that changes
LOW, HIGH = -88.0, 90.0  # elevation of the last and the first row, degrees


class Atlas:
    """Which place of the mesh each texel shows, and where in the texture each triangle lies."""

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
        self.place = np.stack([column, row], axis=2)  # (t, 3, 2) texels, may lie past a border
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
        """(HEIGHT, WIDTH) 0..1: share of the light that is the scene's, not the texture's own."""

    def spread(self, values: Array) -> Array:
        """Columns on the fine vertices as pictures (HEIGHT, WIDTH, columns); 0 where no mesh is."""
        out = np.zeros((HEIGHT, WIDTH, values.shape[1]), np.float32)
        columns = np.ascontiguousarray(values, np.float32)
        out[self.known] = interpolate(columns, self.tris, self._which, self._weight)
        return out

    def on_vertices(self, picture: Array) -> Array:
        """A picture (HEIGHT, WIDTH) of the atlas at the fine vertices."""
        column, row = np.rint(self._vertex).astype(int).T
        return np.asarray(picture[row.clip(0, HEIGHT - 1), column % WIDTH])


def wrapped(texture: Array) -> Array:
    """The texture with its borders repeated, for look-ups past them."""
    return np.ascontiguousarray(np.concatenate([texture[:, -WRAP:], texture, texture[:, :WRAP]], 1))
