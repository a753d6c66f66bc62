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
from lora_engine.mesh.raster import Array, buffers, moved, strands, triangles
from lora_engine.mesh.shade import cloth, eyeballs, skin
from lora_engine.mesh.surface import smoothstep

SUPERSAMPLE = 2
TORSO_YAW = 0.35  # share of a head turn that the shoulders take part in
TWIST = (-0.1, 0.85)  # heights above the neck joint between which the neck twists
LEVELS = 1024  # steps in which the neck's twist is rounded
TILT = 0.6  # rise of those heights towards the back: the chin turns with the head


@dataclass(frozen=True)
class Camera:
    """Where a mesh point comes to lie in the picture."""

    origin: Array  # mesh point at the place below
    place: tuple[float, float] = (0.5, 0.5)  # shares of its width and height, from the top left
    scale: float = 0.26  # share of its height that one decimetre takes

    def project(self, points: Array, width: int, height: int) -> Array:
        """Pixel x, pixel y and depth of points (n, 3)."""
        offset = points - self.origin
        zoom = self.scale * height / (1 - offset[:, 2] / DISTANCE)
        x = self.place[0] * width + offset[:, 0] * zoom - 0.5
        y = self.place[1] * height - offset[:, 1] * zoom - 0.5
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
            grey = rng.standard_normal((*picture.shape[:2], 1), np.float32)
            tint = 0.5 * rng.standard_normal(picture.shape, np.float32)
            picture = picture + self.noise * (grey + tint) * (0.6 + 0.8 / 255 * picture)
        return np.asarray(np.clip(np.rint(picture), 0, 255), np.uint8)


def rotations(pose: Pose) -> Array:
    """(LEVELS + 1, 3, 3): mesh axes to camera axes, from the torso's turn to the head's."""
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
    pivot: Array

    def level(self, points: Array) -> Array:
        """Which of the matrices moves each point (n, 3) of the unturned head."""
        offset = points - (self.pivot - PIVOT)
        share = smoothstep(offset[:, 1] + TILT * offset[:, 2], *TWIST)
        return np.asarray(np.rint(share * LEVELS), np.int32)

    def __call__(self, points: Array, level: Array) -> Array:
        """Points after the turn."""
        return np.asarray(moved(points - self.pivot, level, self.matrices) + self.pivot)


def render(shots: Sequence[Shot], size: tuple[int, int], background: Array) -> Array:
    """A float picture (height, width, 3) in 0..255 for size (width, height).

    `background` is stretched behind; later shots lie over earlier ones.
    """
    wide, high = size[0] * SUPERSAMPLE, size[1] * SUPERSAMPLE
    canvas = cv2.resize(background, (wide, high), interpolation=cv2.INTER_LINEAR)
    canvas = np.ascontiguousarray(canvas, np.float32)
    for shot in shots:
        _draw(canvas, shot)
    return np.asarray(cv2.resize(canvas, size, interpolation=cv2.INTER_AREA))


def _draw(canvas: Array, shot: Shot) -> None:
    head, camera, light = shot.head, shot.camera, shot.light
    high, wide = canvas.shape[:2]
    turn = Turn(rotations(shot.pose), head.pivot)
    depth, which, weight = buffers(high, wide)
    found, first = (which, weight), 0
    garment, eyes = head.garment, head.eyes
    parts: list[tuple[Array, int]] = []
    for part in (head, garment, eyes):
        level = turn.level(part.vertices)
        turned = turn(part.vertices, level)
        corners = camera.project(turned, wide, high)[part.tris]
        triangles(corners, part.cut, depth, which, weight, first)
        parts.append((moved(part.out, level, turn.matrices), first))
        first += len(part.tris)
    skin(canvas, head, *parts[0], light, *found)
    cloth(canvas, garment, *parts[1], light, *found)
    eyeballs(canvas, eyes, *parts[2], light, *found)
    hair = head.hair
    if len(hair.points):
        flat = hair.points.reshape(-1, 3)
        level = turn.level(flat)
        turned = turn(flat, level)
        colours = hair.shaded(turned, moved(hair.out, level, turn.matrices), light)
        placed = camera.project(turned, wide, high).reshape(hair.points.shape)
        strands(placed, colours, hair.width * camera.scale * high, depth, canvas)
