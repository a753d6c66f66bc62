"""Where a clip is taken: light, background and camera, constant for the whole clip."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lora_engine.mesh.geometry import Array
from lora_engine.mesh.light import Light

HIGH = 288  # rows of a background picture: it is out of focus


@dataclass(frozen=True)
class Scene:
    """Light and background, with a word for captions."""

    light: Light
    background: Array  # (HIGH, wide, 3) float RGB
    name: str


def scene(aspect: float, rng: np.random.Generator) -> Scene:
    """A random place; `aspect` is the clip's width over its height."""
    side, up = rng.uniform(-0.9, 0.9), rng.uniform(0.1, 0.7)
    light = Light.from_direction(np.array([side, up, 0.8]), key=rng.uniform(0.15, 0.5))
    shape = HIGH, round(HIGH * aspect)
    match int(rng.integers(3)):
        case 0:
            return Scene(light, _wall(shape, rng), "a plain wall")
        case 1:
            return Scene(light, _room(shape, rng), "a blurred room")
        case _:
            return Scene(light, _garden(shape, rng), "blurred trees")


def _wall(shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """One colour, lit from one side."""
    base = rng.uniform(70, 205) * np.exp(rng.normal(0, 0.05, 3))
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) / shape[0]
    slope = 1 + rng.uniform(-0.25, 0.25) * (x - 0.5) - rng.uniform(0, 0.3) * (y - 0.5)
    return np.asarray(np.clip(slope[..., None] * base, 0, 245), np.float32)


def _room(shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """Furniture, pictures and a window, far out of focus."""
    picture = _wall(shape, rng)
    high, wide = shape
    for _ in range(int(rng.integers(8, 16))):
        x, y = int(rng.uniform(-0.1, 1) * wide), int(rng.uniform(0.0, 1) * high)
        w, h = (int(rng.uniform(0.06, 0.35) * high) for _ in range(2))
        colour = rng.uniform(35, 200) * np.exp(rng.normal(0, 0.1, 3))
        cv2.rectangle(picture, (x, y), (x + w, y + h), np.clip(colour, 0, 240).tolist(), -1)
    if rng.random() < 0.6:
        x, w = int(rng.uniform(0, 0.8) * wide), int(rng.uniform(0.2, 0.4) * high)
        cv2.rectangle(picture, (x, -2), (x + w, int(0.6 * high)), (236.0, 240.0, 246.0), -1)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), rng.uniform(7, 13)))


def _garden(shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """Leaves and sky as discs of light."""
    high, wide = shape
    picture = np.empty((high, wide, 3), np.float32)
    picture[:] = np.array([74.0, 92, 58]) * rng.uniform(0.6, 1.1)
    for _ in range(160):
        x, y = int(rng.uniform(0, wide)), int(rng.uniform(0, high))
        sky = rng.random() < 0.25 * (1 - y / high)
        leaf = np.array([196.0, 208, 214]) if sky else np.array([92.0, 118, 62])
        colour = np.clip(
            leaf * np.exp(rng.normal(0, 0.25)) * np.exp(rng.normal(0, 0.06, 3)), 0, 245
        )
        cv2.circle(picture, (x, y), int(rng.uniform(4, 22)), colour.tolist(), -1)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), rng.uniform(6, 10)))
