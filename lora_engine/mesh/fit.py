"""Fitting the head to one portrait: where the landmarks lie on the mesh, and the person's shape.

The shape is symmetric and made of morph targets, so its depth follows from its width and height as
in real heads; the landmarks' own depth is a guess and trusted only in part. The asymmetry and the
expression of the portrait are kept in a second shape, which says from which pixel each vertex takes
its colour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import RBFInterpolator
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from datapipe.faces.landmarks import IRISES, SIDE, SURFACE, Landmarker
from lora_engine.mesh.anatomy import Anatomy, Phenotype
from lora_engine.mesh.geometry import Array, buffers, interpolate, normals, triangles, triangles_of

DISTANCE = 12.0
"""Decimetres from the camera to the head: an arm's length or a little more."""
DEPTH_TRUST = 0.35
"""Weight of a landmark's depth against its place in the picture."""
STIFFNESS = 0.012
"""Resistance of the targets; a larger one keeps the face nearer the average."""
REACH, FALL = 0.5, 0.12
"""Distance from a landmark up to which the second shape follows it, and how softly that ends."""


@dataclass(frozen=True)
class LandmarkMap:
    """Where each landmark of the skin lies on the mesh, and which landmark is its mirror image."""

    corners: Array
    """(468, 3): the coarse vertices of the landmark's triangle."""
    weights: Array
    """(468, 3): barycentric weights in that triangle."""
    mirror: Array
    """(478,): the landmark on the other side of the face."""

    def on(self, vertices: Array) -> Array:
        """Place the landmarks (468, 3) on coarse vertices."""
        return np.asarray((vertices[self.corners] * self.weights[..., None]).sum(axis=1))


@dataclass(frozen=True)
class PhotoCamera:
    """The camera that took the portrait, in front of a head that may be turned a little."""

    rotation: Array
    """(3, 3): mesh axes to camera axes."""
    scale: float
    """Mesh units per pixel at the origin's depth."""
    mesh_origin: Array
    photo_origin: Array
    """x right, y up, depth; pixels."""

    @property
    def angle(self) -> float:
        """How far the head is turned away from this camera, degrees."""
        return float(np.degrees(np.arccos(np.clip(self.rotation[2, 2], -1, 1))))

    def to_mesh(self, points: Array) -> Array:
        """Carry points of the photo (n, 3: x right, y up, depth; pixels) into mesh space."""
        offset = (points - self.photo_origin) * self.scale
        offset[:, :2] *= 1 - offset[:, 2:] / DISTANCE
        return np.asarray(offset @ self.rotation + self.mesh_origin)

    def to_pixels(self, vertices: Array) -> Array:
        """Project vertices to pixels (x right, y down), with their depth in mesh units: (n, 3)."""
        offset = (vertices - self.mesh_origin) @ self.rotation.T
        flat = offset[:, :2] / (1 - offset[:, 2:] / DISTANCE) / self.scale
        return np.column_stack([(flat + self.photo_origin[:2]) * [1, -1], offset[:, 2]])


@dataclass(frozen=True)
class Fit:
    """The head that a portrait shows."""

    shape: Array
    """Coarse vertices, symmetric."""
    aligned: Array
    """The same head, as crooked as the portrait shows it."""
    camera: PhotoCamera
    landmarks: Array
    """(478, 2): pixels of the portrait, y down."""


def fit(anatomy: Anatomy, where: LandmarkMap, points: Array, who: Phenotype) -> Fit:
    """Find the head whose landmarks lie at `points` (478, 3: x right, y up, depth; pixels)."""
    mean = anatomy.mean(who)
    moves = anatomy.directions
    on_moves = np.stack([where.on(move) for move in moves])
    shape = mean
    for _ in range(3):
        own = where.on(shape)
        camera = _procrustes(points[:SURFACE], own)
        seen = camera.to_mesh(points[:SURFACE])
        mirrored = seen[where.mirror[:SURFACE]] * [-1, 1, 1]
        wanted = (seen + mirrored) / 2 - where.on(mean)
        shape = mean + np.tensordot(_amounts(on_moves, wanted), moves, axes=1)
    both = wanted + where.on(mean)
    shape = anatomy.symmetric(_follow(shape, where.on(shape), both))
    aligned = _follow(shape, where.on(shape), seen)
    return Fit(shape, aligned, camera, points[:, :2] * [1, -1])


def _amounts(moves: Array, wanted: Array) -> Array:
    """Find how much of each direction, -1..1, brings the landmarks nearest to their places."""
    weight = np.array([1, 1, DEPTH_TRUST])
    system = (moves * weight).reshape(len(moves), -1)
    square = system @ system.T + STIFFNESS * len(wanted) * 0.01 * np.eye(len(moves))
    sides = system @ (wanted * weight).ravel()
    amounts = np.zeros(len(moves))
    free = np.ones(len(moves), bool)
    for _ in range(len(moves)):  # amounts that reach a bound stay there; the rest is solved again
        amounts[free] = np.linalg.solve(
            square[np.ix_(free, free)], sides[free] - square[np.ix_(free, ~free)] @ amounts[~free]
        )
        beyond = free & (abs(amounts) > 1)
        if not beyond.any():
            break
        amounts = np.clip(amounts, -1, 1)
        free &= ~beyond
    return amounts


def _follow(shape: Array, own: Array, seen: Array) -> Array:
    """Move the shape smoothly, so that its landmarks meet the portrait's, seen from the front."""
    shift = seen - own
    shift[:, 2] = 0
    chosen = np.unique(np.round(own, 4), axis=0, return_index=True)[1]
    field = RBFInterpolator(
        own[chosen], shift[chosen], kernel="linear", smoothing=0.02, neighbors=32
    )
    gap = np.full(len(shape), np.inf)
    for point in own[chosen][::4]:
        gap = np.minimum(gap, np.linalg.norm(shape - point, axis=1))
    near = 1 / (1 + np.exp((gap - REACH) / FALL))
    active = near > 1e-3
    moved = shape.copy()
    moved[active] += field(shape[active]) * near[active, None]
    return moved


def _procrustes(photo: Array, mesh: Array) -> PhotoCamera:
    a, b = photo - photo.mean(axis=0), mesh - mesh.mean(axis=0)
    u, s, vt = np.linalg.svd(a.T @ b)
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    scale = float((s * sign).sum() / (a**2).sum())
    return PhotoCamera(u @ np.diag(sign) @ vt, scale, mesh.mean(axis=0), photo.mean(axis=0))


def map_landmarks(anatomy: Anatomy, find: Landmarker) -> LandmarkMap:
    """Run the landmarker on a plain frontal picture of the mesh, and read off what lies there.

    Raises ValueError where it sees no face, which a sound landmarker does on this picture.
    """
    vertices = anatomy.mean(Phenotype())
    tris = np.concatenate([triangles_of(anatomy.quads), triangles_of(anatomy.eye_quads)])
    eyes = np.concatenate([vertices[eye] for eye in anatomy.eyes]).mean(axis=0)
    scale = SIDE * 4 / 2.7
    middle = eyes + np.array([0, -0.4, 0])
    pixels = (vertices - middle) * [scale, -scale, 1] + [SIDE * 2, SIDE * 2, 0]
    depth, which, weight = buffers(SIDE * 4, SIDE * 4)
    triangles(pixels[tris], np.ones(tris.shape), depth, which, weight, 0)
    picture = _plain(anatomy, vertices, tris, which, weight)
    points = find.square(picture[2::4, 2::4].copy()) * 4 + 2
    mirror = _mirror(points)
    points[:, 0] = (points[:, 0] + (4 * SIDE - points[mirror, 0])) / 2
    points[:, 1] = (points[:, 1] + points[mirror, 1]) / 2
    rows, columns = np.nonzero((which >= 0) & (which < 2 * len(anatomy.quads)))
    _, nearest = cKDTree(np.column_stack([columns, rows])).query(points[:SURFACE, :2])
    place = rows[nearest], columns[nearest]
    return LandmarkMap(tris[which[place]], weight[place], mirror)


def _mirror(points: Array) -> Array:
    """Pair each landmark of a symmetric picture with the one on the other side."""
    left, right = points[list(IRISES), 0]
    flipped = points * [-1, 1, 1] + [left + right, 0, 0]
    gap = np.linalg.norm(points[:, None] - flipped[None], axis=2)
    mirror = linear_sum_assignment(gap + gap.T)[1]
    if (mirror[mirror] != np.arange(len(points))).any():
        raise RuntimeError("the landmarks of the plain head are not symmetric")
    return np.asarray(mirror)


def _plain(anatomy: Anatomy, vertices: Array, tris: Array, which: Array, weight: Array) -> Array:
    """Paint the mesh the colour of skin, with eyes: enough for the landmarker."""
    image = np.full((*which.shape, 3), 120, np.uint8)
    seen = which >= 0
    columns = np.concatenate([normals(vertices, tris), vertices], axis=1).astype(np.float32)
    parts = interpolate(columns, tris, which[seen], weight[seen])
    normal = parts[:, :3] / np.linalg.norm(parts[:, :3], axis=1, keepdims=True)
    colour = np.tile([215.0, 175.0, 150.0], (len(parts), 1))
    ball = which[seen] >= 2 * len(anatomy.quads)
    for eye in anatomy.eyes:
        away = np.linalg.norm((parts[:, 3:] - vertices[eye].mean(axis=0))[:, :2], axis=1)
        near = ball & (away < 0.3)
        colour[near] = 235
        colour[near & (away < 0.06)] = (90, 60, 40)
        colour[near & (away < 0.025)] = 10
    light = np.clip(normal @ [0, 0.45, 0.89], 0, 1)
    image[seen] = (colour * (0.25 + 0.75 * light[:, None])).clip(0, 255)
    return image
