"""Films of virtual subjects: shots in which people come and go, and who is visible in each frame.

Heads are drawn once for each of some yaws and set before the background, so that a film costs
little more than its encoding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from datapipe.record import Image, Pose
from lora_engine.mesh.geometry import Array
from lora_engine.mesh.head import Head
from lora_engine.mesh.render import Camera, HeadShot, Turn, render, rotations
from lora_engine.subjects.clip import Scene, encode, scene
from lora_engine.subjects.distinct import Distinct

YAWS = tuple(range(-40, 41, 10))
"""Degrees at which heads are drawn."""
SIDE = 480
"""Pixels of a drawn head and shoulders."""
SLIDE = 1.0
"""Seconds in which people come into the picture or leave it, at its nearer side."""
GRAIN = 32
"""Pixels by which a film's grain is shifted from frame to frame, at most."""
VISIBLE = 0.4
"""Share of the face inside the picture from which its person is visible."""


@dataclass(frozen=True)
class Actor:
    """Who is in a shot, where and when."""

    who: int
    """Number in the cast."""
    x: float = 0.5
    """Middle of the head, share of the picture's width."""
    size: float = 0.9
    """Height of head and shoulders, share of the picture's."""
    enters: float | None = None
    """Seconds of the shot at which the person begins to come in; None: there from the start."""
    leaves: float | None = None
    """Seconds at which the person begins to leave."""


@dataclass(frozen=True)
class FilmShot:
    """A span with one background."""

    seconds: float
    actors: tuple[Actor, ...] = ()
    dissolve: float = 0.0
    """Seconds in which it comes out of the shot before, within its own time."""


@dataclass(frozen=True)
class Film:
    """A finished film and its truth."""

    video: bytes
    """H.264 in MP4."""
    fps: int
    size: tuple[int, int]
    """Width and height, pixels."""
    visible: tuple[frozenset[int], ...]
    """For each frame, who is visible; in a dissolve nobody is."""
    boxes: tuple[dict[int, tuple[float, float, float, float]], ...]
    """For each frame, the face of each of them: left, top, right, bottom in pixels."""

    def share(self, who: int, start: float, end: float) -> float:
        """Share of the frames from `start` on and before `end` (seconds) that show someone."""
        shown = [who in some for k, some in enumerate(self.visible) if start <= k / self.fps < end]
        return sum(shown) / max(1, len(shown))


class Cast:
    """People, each drawn when first needed."""

    def __init__(self, people: Sequence[Distinct], seed: int = 0) -> None:
        self._sprites = [Sprite(person.head, scene(1.0, np.random.default_rng(seed)))
                         for person in people]  # fmt: skip

    def film(
        self, shots: Sequence[FilmShot], size: tuple[int, int] = (960, 540),
        fps: int = 25,
        seed: int = 0,
    ) -> Film:  # fmt: skip
        """Draw a film of shots one after the other; `size` is width and height in pixels."""
        rng = np.random.default_rng(seed)
        grain = rng.normal(0, 1.5, (size[1] + GRAIN, size[0] + GRAIN, 1)).astype(np.float32)
        visible: list[frozenset[int]] = []
        boxes: list[dict[int, tuple[float, float, float, float]]] = []
        backgrounds = [cv2.resize(scene(size[0] / size[1], rng).background, size) for _ in shots]

        def frames() -> Iterator[Image]:
            before: Array | None = None
            for shot, background in zip(shots, backgrounds, strict=True):
                for k in range(round(shot.seconds * fps)):
                    picture, seen = self._draw(shot, background, k / fps, fps, size)
                    share = 1.0 if before is None else min(1.0, (k + 1) / fps / max(
                        shot.dissolve, 1e-9))  # fmt: skip
                    if before is not None and share < 1:
                        picture, seen = share * picture + (1 - share) * before, {}
                    visible.append(frozenset(seen))
                    boxes.append(seen)
                    last = picture
                    y, x = rng.integers(0, GRAIN, 2)
                    noisy = picture + grain[y : y + size[1], x : x + size[0]]
                    yield np.clip(noisy, 0, 255).astype(np.uint8)
                before = last

        video = encode(frames(), size, fps)
        return Film(video, fps, size, tuple(visible), tuple(boxes))

    def _draw(
        self, shot: FilmShot, background: Array, time: float, fps: int, size: tuple[int, int]
    ) -> tuple[Array, dict[int, tuple[float, float, float, float]]]:
        picture = background.copy()
        seen: dict[int, tuple[float, float, float, float]] = {}
        for actor in shot.actors:
            away = _away(actor, time)
            if away >= 1:
                continue
            yaw = 35 * np.sin(2 * np.pi * (time / 5.0 + 0.37 * actor.who))
            drawn, alpha, face = self._sprites[actor.who].at(float(yaw))
            side = round(actor.size * size[1])
            scale = side / SIDE
            sign = 1 if actor.x > 0.5 else -1
            edge = size[0] if sign > 0 else 0
            left = round(actor.x * size[0] - side / 2)
            left += round(sign * away * (abs(edge - actor.x * size[0]) + side / 2))
            top = size[1] - side
            parts = np.dstack([drawn, alpha])
            parts = cv2.resize(parts, (side, side), interpolation=cv2.INTER_AREA)
            _paste(picture, parts, left, top)
            box = tuple(float(edge * scale + (left, top)[i % 2]) for i, edge in enumerate(face))
            wide = min(box[2], size[0]) - max(box[0], 0)
            if wide >= VISIBLE * (box[2] - box[0]):
                seen[actor.who] = box  # type: ignore[assignment]
        return picture, seen


def _away(actor: Actor, time: float) -> float:
    """How far out of the picture: 0 in its place, 1 gone."""
    away = 0.0
    if actor.enters is not None:
        away = max(away, 1 - (time - actor.enters) / SLIDE)
    if actor.leaves is not None:
        away = max(away, (time - actor.leaves) / SLIDE)
    return float(np.clip(away, 0, 1))


def _paste(picture: Array, parts: Array, left: int, top: int) -> None:
    """Set colours with their cover, (side, side, 4), into a picture."""
    height, width = picture.shape[:2]
    side = parts.shape[0]
    x0, x1 = max(0, left), min(width, left + side)
    y0, y1 = max(0, top), min(height, top + side)
    if x0 >= x1 or y0 >= y1:
        return
    part = parts[y0 - top : y1 - top, x0 - left : x1 - left]
    cover = part[..., 3:]
    picture[y0:y1, x0:x1] = cover * part[..., :3] + (1 - cover) * picture[y0:y1, x0:x1]


class Sprite:
    """One person's head and shoulders, cut out, at some yaws."""

    def __init__(self, head: Head, place: Scene) -> None:
        self._head, self._place = head, place
        self._drawn: dict[int, tuple[Array, Array, tuple[float, ...]]] = {}

    def at(self, yaw: float) -> tuple[Array, Array, tuple[float, ...]]:
        """RGB and cover (0..1), each float and `SIDE` square, and the face's box in it."""
        nearest = min(YAWS, key=lambda one: abs(one - yaw))
        if nearest not in self._drawn:
            self._drawn[nearest] = self._draw(nearest)
        return self._drawn[nearest]

    @cached_property
    def _camera(self) -> Camera:
        centre = self._head.face.mean(axis=0)
        scale = 0.23
        top = (self._head.vertices[:, 1].max() - centre[1]) * scale
        return Camera(centre * [0, 1, 1], (0.5, max(0.45, top + 0.12)), scale)

    def _draw(self, yaw: int) -> tuple[Array, Array, tuple[float, ...]]:
        shot = HeadShot(self._head, Pose(yaw, 0.0, 0.0), self._camera, self._place.light)
        dark, bright = (
            render([shot], (SIDE, SIDE), np.full((2, 2, 3), level, np.float32))
            for level in (0.0, 255.0)
        )
        alpha = np.clip(1 - (bright - dark).mean(axis=2) / 255, 0, 1).astype(np.float32)
        drawn = np.clip(dark / np.maximum(alpha, 1e-3)[..., None], 0, 255).astype(np.float32)
        turn = Turn(rotations(shot.pose), self._head.pivot)
        points = self._head.face
        face = self._camera.project(turn(points, turn.level(points)), SIDE, SIDE)[:, :2]
        return drawn, alpha, (*face.min(axis=0).tolist(), *face.max(axis=0).tolist())
