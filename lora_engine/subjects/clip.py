"""One clip of virtual subjects: the scene, the way heads move, the frames and their truth.

The truth is a JSON object: `subject` (in a clip of one person), `caption`, `fps`, `size` [width,
height] and `people`, each with `subject` and `frames`. A frame has `yaw`, `pitch` and `roll` in
degrees, `points` in pixels (eyes, nose tip, mouth corners; pairs from image left; also hidden ones)
and `box`, which encloses the face's landmarks (left, top, right, bottom).
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np

from datapipe.errors import check_range
from datapipe.record import Image, Pose
from lora_engine.mesh.geometry import Array, Light
from lora_engine.mesh.head import Head
from lora_engine.mesh.render import Camera, HeadShot, Sensor, Turn, render, rotations
from lora_engine.mesh.studio import build
from lora_engine.subjects.distinct import invented
from lora_engine.subjects.gallery import Gallery
from lora_engine.subjects.people import Invented, invent

HIGH = 288
"""Rows of a background, which is out of focus and needs no more."""
PROFILE = 90.0
"""Degrees to which heads turn on either side."""
STEPS = (0.08, 0.24, 0.05, 0.4, 0.05, 0.18)
"""Shares of a clip: rest, turn, rest, turn to the other side, rest, turn back."""
PAIR_ASPECT = 16 / 9
"""Width over height of a clip of two people."""


@dataclass(frozen=True)
class Scene:
    """Where a clip is taken: light and background, the same in all its frames."""

    light: Light
    background: Array
    """(HIGH, wide, 3), float, RGB 0..255."""
    name: str
    """What a caption calls the place."""


def scene(aspect: float, rng: np.random.Generator) -> Scene:
    """Draw a place; `aspect` is the clip's width over its height."""
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
    """Paint a wall of one colour, lit from one side."""
    base = rng.uniform(70, 205) * np.exp(rng.normal(0, 0.05, 3))
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) / shape[0]
    slope = 1 + rng.uniform(-0.25, 0.25) * (x - 0.5) - rng.uniform(0, 0.3) * (y - 0.5)
    return np.asarray(np.clip(slope[..., None] * base, 0, 245), np.float32)


def _room(shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """Paint furniture, pictures and perhaps a window, far out of focus."""
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
    """Paint leaves and sky as discs of light."""
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


def head_turn(frames: int, rng: np.random.Generator) -> list[Pose]:
    """Draw a pose for each frame: from the front to both profiles and back, with natural ease.

    The first is frontal; both profiles are reached exactly where a frame falls into their rest.
    """
    first = float(rng.choice([-PROFILE, PROFILE]))
    stops = np.array([0.0, 0.0, first, first, -first, -first, 0.0])
    times = np.concatenate([[0.0], np.cumsum(STEPS)])
    now = np.linspace(0, 1, frames)
    yaw = np.zeros(frames)
    for k in range(len(STEPS)):
        t = np.clip((now - times[k]) / STEPS[k], 0, 1)
        ease = t**3 * (10 + t * (6 * t - 15))  # of least jerk, as people move
        yaw += (stops[k + 1] - stops[k]) * ease
    swing = np.sin(np.pi * np.clip(now / 0.2, 0, 1) / 2)  # the head is level at first
    pitch = (
        swing
        * rng.uniform(1, 5)
        * np.sin(2 * np.pi * (rng.uniform(0.6, 1.3) * now) + rng.uniform(0, 6))
    )
    roll = (
        swing
        * rng.uniform(0, 3)
        * np.sin(2 * np.pi * (rng.uniform(0.5, 1.2) * now) + rng.uniform(0, 6))
    )
    return [
        Pose(*(round(float(v), 3) + 0.0 for v in pose))
        for pose in zip(yaw, pitch, roll, strict=True)
    ]


@dataclass(frozen=True)
class ClipFormat:
    """Length and size of clips. Raises ValueError for a value out of its range."""

    seconds: float = 4.0
    fps: int = 24
    """Frames a second."""
    size: int = 512
    """Height in pixels, even; clips of one person are square."""

    def __post_init__(self) -> None:
        check_range(self, "seconds", least=0.5, most=600, option="")
        check_range(self, "fps", least=1, most=120, option="")
        check_range(self, "size", least=64, most=2048, option="")
        if self.size % 2:
            raise ValueError(f"size must be even, not {self.size}")

    @property
    def frames(self) -> int:
        return round(self.seconds * self.fps)


@dataclass(frozen=True)
class RenderedClip:
    """A finished clip."""

    video: bytes
    """H.264 in MP4."""
    caption: str
    truth: dict[str, Any]
    """As the module describes it."""


def portrait_clip(
    gallery: Gallery,
    names: Sequence[str],
    kind: ClipFormat,
    seed: int,
    chosen: Sequence[int] = (),
) -> RenderedClip:
    """Render one or two people side by side, each turning their head in their own time.

    `chosen` are the seeds of people who are told apart (`distinct_people`); without, `seed` invents
    the people, too.
    """
    rng = np.random.default_rng(seed)
    aspect = 1.0 if len(names) == 1 else PAIR_ASPECT
    place = scene(aspect, rng)
    if chosen:
        drawn = [invented(gallery, own) for own in chosen]
        people, heads = [one.invented for one in drawn], [one.head for one in drawn]
    else:
        people = [invent(gallery, rng) for _ in names]
        heads = [build(who.person, gallery.studio, int(rng.integers(2**31))) for who in people]
    tracks = [head_turn(kind.frames, rng) for _ in names]
    cameras = [camera_for(head, k, len(names), rng) for k, head in enumerate(heads)]
    size = round(kind.size * aspect / 2) * 2, kind.size
    caption = _caption(people, place)
    truth: dict[str, Any] = {"caption": caption, "fps": kind.fps, "size": list(size)}
    if len(names) == 1:
        truth["subject"] = names[0]
    truth["people"] = [
        {"subject": name, "frames": [_truth(head, pose, camera, size) for pose in track]}
        for name, head, camera, track in zip(names, heads, cameras, tracks, strict=True)
    ]
    sensor = Sensor(noise=float(rng.uniform(1.0, 3.0)), blur=float(rng.uniform(0.3, 0.5)))

    def frames() -> Iterator[Image]:
        for poses in zip(*tracks, strict=True):
            shots = [
                HeadShot(head, pose, camera, place.light)
                for head, pose, camera in zip(heads, poses, cameras, strict=True)
            ]
            yield sensor(render(shots, size, place.background), rng)

    return RenderedClip(encode(frames(), size, kind.fps), caption, truth)


def empty_clip(kind: ClipFormat, seed: int) -> RenderedClip:
    """Render a place without people, past which the camera moves slowly."""
    rng = np.random.default_rng(seed)
    place = scene(1.4, rng)
    sensor = Sensor(noise=float(rng.uniform(1.0, 3.0)))
    size = kind.size, kind.size

    def frames() -> Iterator[Image]:
        high, wide = place.background.shape[:2]
        for shift in np.linspace(0, wide - high, kind.frames):
            matrix = np.array([[high / size[0], 0, shift], [0, high / size[1], 0.0]])
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            yield sensor(cv2.warpAffine(place.background, matrix, size, flags=flags), rng)

    caption = f"The camera moves past {place.name}; nobody is there."
    truth = {"caption": caption, "fps": kind.fps, "size": list(size), "people": []}
    return RenderedClip(encode(frames(), size, kind.fps), caption, truth)


def encode(frames: Iterator[Image], size: tuple[int, int], fps: int) -> bytes:
    """Encode frames of a size (width, height) as H.264 in MP4; the same frames, the same bytes."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        options = {"preset": "veryfast", "crf": "22", "threads": "1", "flags": "+bitexact"}
        # x264's macroblock tree reads memory that it has not set, so its output varies
        options["x264-params"] = "mbtree=0"
        stream = container.add_stream("libx264", rate=Fraction(fps), options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def camera_for(head: Head, index: int, count: int, rng: np.random.Generator) -> Camera:
    """Place one of `count` heads: a little off the middle, with some of the shoulders.

    `index` counts them from image left.
    """
    face = head.face.mean(axis=0)
    scale = rng.uniform(0.21, 0.25)
    middle = (index + 0.5) / count + rng.uniform(-0.02, 0.02)
    top = (head.vertices[:, 1].max() - face[1]) * scale
    return Camera(
        face * [0, 1, 1], (middle, max(0.47, top + 0.16) + rng.uniform(-0.01, 0.02)), scale
    )


def _truth(head: Head, pose: Pose, camera: Camera, size: tuple[int, int]) -> dict[str, Any]:
    turn = Turn(rotations(pose), head.pivot)

    def pixels(points: Array) -> Array:
        return camera.project(turn(points, turn.level(points)), *size)[:, :2].round(1)

    face = pixels(head.face)
    return {
        "yaw": pose.yaw,
        "pitch": pose.pitch,
        "roll": pose.roll,
        "points": pixels(head.features).tolist(),
        "box": [*face.min(axis=0).tolist(), *face.max(axis=0).tolist()],
    }


def _caption(people: Sequence[Invented], place: Scene) -> str:
    words = " and ".join(who.words for who in people)
    verb = "turns the head" if len(people) == 1 else "turn their heads"
    return f"{words[0].upper()}{words[1:]} {verb} from side to side in front of {place.name}."


def as_json(truth: dict[str, Any]) -> str:
    """Write the truth without spaces, in one line."""
    return json.dumps(truth, separators=(",", ":"))
