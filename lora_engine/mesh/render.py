"""Pictures of heads: poses, camera, and the passes that draw skin, clothes, eyes and hair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from datapipe.record import Image, Pose
from lora_engine.mesh.fit import DISTANCE
from lora_engine.mesh.head import PIVOT, Head
from lora_engine.mesh.light import Light
from lora_engine.mesh.raster import Array, buffers, strands, triangles
from lora_engine.mesh.shade import cloth, eyeballs, skin
from lora_engine.mesh.surface import normals, smoothstep

SUPERSAMPLE = 2
TORSO_YAW = 0.35  # share of a head turn that the shoulders take part in
TWIST = (-0.1, 0.85)  # heights above the neck joint between which the neck twists
TILT = 0.6  # rise of those heights towards the back: the chin turns with the head


@dataclass(frozen=True)
class Camera:
    """Where a mesh point comes to lie in the picture, in shares of the picture's side."""

    origin: Array  # mesh point at the place below
    place: tuple[float, float] = (0.5, 0.5)  # right, down
    scale: float = 0.26  # side of the picture that one decimetre takes

    def project(self, points: Array, side: int) -> Array:
        """Pixel x, pixel y and depth of points (n, 3)."""
        offset = points - self.origin
        zoom = self.scale * side / (1 - offset[:, 2] / DISTANCE)
        x = self.place[0] * side + offset[:, 0] * zoom - 0.5
        y = self.place[1] * side - offset[:, 1] * zoom - 0.5
        return np.stack([x, y, offset[:, 2]], axis=1)


@dataclass(frozen=True)
class Shot:
    """One head in one picture."""

    head: Head
    pose: Pose
    camera: Camera
    light: Light


@dataclass(frozen=True)
class Sensor:
    """What a camera adds to a clean picture."""

    noise: float = 1.6
    """Sigma in grey levels of the noise at mid grey."""
    blur: float = 0.35
    """Sigma in pixels."""

    def __post_init__(self) -> None:
        if self.noise < 0 or self.blur < 0:
            raise ValueError(f"noise and blur are not negative, not {self.noise}, {self.blur}")

    def __call__(self, picture: Array, rng: np.random.Generator) -> Image:
        """A float picture (0..255) as recorded."""
        if self.blur:
            picture = cv2.GaussianBlur(picture, (0, 0), self.blur)
        if self.noise:
            grey = rng.normal(0, self.noise, picture.shape[:2] + (1,))
            tint = rng.normal(0, 0.5 * self.noise, picture.shape)
            picture = picture + (grey + tint) * (0.6 + 0.8 * picture / 255)
        return np.asarray(np.clip(np.rint(picture), 0, 255), np.uint8)


def rotation(yaw: Array, pitch: Array, roll: Array) -> Array:
    """(n, 3, 3) mesh axes to camera axes, for angles in degrees (n,)."""
    y, p, r = (np.radians(angle) for angle in (yaw, -pitch, -roll))
    zero, one = np.zeros_like(y), np.ones_like(y)
    cy, sy, cp, sp, cr, sr = np.cos(y), np.sin(y), np.cos(p), np.sin(p), np.cos(r), np.sin(r)
    about_y = np.array([[cy, zero, sy], [zero, one, zero], [-sy, zero, cy]])
    about_x = np.array([[one, zero, zero], [zero, cp, -sp], [zero, sp, cp]])
    about_z = np.array([[cr, -sr, zero], [sr, cr, zero], [zero, zero, one]])
    product = np.einsum("ijn,jkn,kln->nil", about_z, about_x, about_y)
    return np.asarray(product)


def turn(points: Array, pose: Pose, pivot: Array) -> Array:
    """Points (n, 3) after the head has turned: the neck twists and bends, the torso follows a little."""
    offset = points - (pivot - PIVOT)
    share = smoothstep(offset[:, 1] + TILT * offset[:, 2], *TWIST)
    yaw = pose.yaw * (TORSO_YAW + (1 - TORSO_YAW) * share)
    matrices = rotation(yaw, pose.pitch * share, pose.roll * share)
    return np.asarray(np.einsum("nij,nj->ni", matrices, points - pivot) + pivot)


def render(shots: Sequence[Shot], size: int, background: Array) -> Array:
    """A square float picture (size, size, 3) in 0..255; `background` is stretched behind."""
    side = size * SUPERSAMPLE
    canvas = cv2.resize(background, (side, side), interpolation=cv2.INTER_LINEAR)
    canvas = np.ascontiguousarray(canvas, np.float32)
    for shot in shots:
        _draw(canvas, shot)
    return np.asarray(cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA))


def _draw(canvas: Array, shot: Shot) -> None:
    head, side = shot.head, len(canvas)
    pivot = head.pivot
    body = turn(head.vertices, shot.pose, pivot)
    garment = turn(head.garment.vertices, shot.pose, pivot)
    balls = turn(head.eyes.vertices, shot.pose, pivot)
    depth, which, weight = buffers(side, side)
    first = 0
    for points, tris, cut in (
        (body, head.tris, np.ones(head.tris.shape, np.float32)),
        (garment, head.garment.tris, head.garment.cut),
        (balls, head.eyes.tris, np.ones(head.eyes.tris.shape, np.float32)),
    ):
        corners = shot.camera.project(points, side)[tris]
        triangles(corners, cut, depth, which, weight, first)
        first += len(tris)
    ends = np.cumsum([0, len(head.tris), len(head.garment.tris), len(head.eyes.tris)])
    skin(canvas, head, normals(body, head.tris), shot.light, which, weight, ends[0], ends[1])
    out = normals(garment, head.garment.tris)
    cloth(canvas, head.garment, out, shot.light, which, weight, ends[1], ends[2])
    out = normals(balls, head.eyes.tris)
    eyeballs(canvas, head.eyes, out, shot.light, which, weight, ends[2], ends[3])
    hair = head.hair
    if len(hair.points):
        flat = hair.points.reshape(-1, 3)
        turned = turn(flat, shot.pose, pivot)
        out = turn(flat + hair.out, shot.pose, pivot) - turned
        out /= np.linalg.norm(out, axis=1, keepdims=True)
        colours = hair.shaded(turned, out, shot.light)
        placed = shot.camera.project(turned, side).reshape(hair.points.shape)
        strands(placed, colours, hair.width * shot.camera.scale * side, depth, canvas)
