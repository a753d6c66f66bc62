"""One clip of a virtual subject, its caption, and the truth of every frame.

The truth is a JSON object: `subject` (with one person), `caption`, `fps`, `size` [width, height]
and `people`, each with `subject` and `frames`; a frame has `yaw`, `pitch`, `roll` in degrees,
`points` (eyes, nose tip, mouth corners; pairs from image left; pixels, seen or not) and `box` (of
the face's landmarks: left, top, right, bottom).
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

from datapipe.record import Image, Pose
from lora_engine.mesh.geometry import Array
from lora_engine.mesh.head import Head
from lora_engine.mesh.render import Camera, Sensor, Shot, Turn, render, rotations
from lora_engine.mesh.studio import build
from lora_engine.subjects.gallery import Gallery
from lora_engine.subjects.motion import head_turn
from lora_engine.subjects.people import Invented, invent
from lora_engine.subjects.scene import Scene, scene

PAIR_ASPECT = 16 / 9


@dataclass(frozen=True)
class Format:
    """Of every clip."""

    seconds: float = 4.0
    fps: int = 24
    size: int = 512
    """Height in pixels; clips of one person are square."""

    def __post_init__(self) -> None:
        if self.size % 2 or not 64 <= self.size <= 2048:
            raise ValueError(f"size must be even and within 64 and 2048, not {self.size}")
        if not 1 <= self.fps <= 120 or not 0.5 <= self.seconds <= 600:
            raise ValueError(f"{self.seconds} s at {self.fps} frames a second cannot be rendered")

    @property
    def frames(self) -> int:
        return round(self.seconds * self.fps)


@dataclass(frozen=True)
class Clip:
    """A finished clip."""

    video: bytes
    caption: str
    truth: dict[str, Any]


def portrait_clip(gallery: Gallery, names: Sequence[str], kind: Format, seed: int) -> Clip:
    """One or two people side by side, each turning their head in their own time."""
    rng = np.random.default_rng(seed)
    aspect = 1.0 if len(names) == 1 else PAIR_ASPECT
    place = scene(aspect, rng)
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
                Shot(head, pose, camera, place.light)
                for head, pose, camera in zip(heads, poses, cameras, strict=True)
            ]
            yield sensor(render(shots, size, place.background), rng)

    return Clip(encode(frames(), size, kind.fps), caption, truth)


def empty_clip(kind: Format, seed: int) -> Clip:
    """A place without people; the camera moves slowly."""
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
    return Clip(encode(frames(), size, kind.fps), caption, truth)


def encode(frames: Iterator[Image], size: tuple[int, int], fps: int) -> bytes:
    """H.264 in MP4; the same frames give the same bytes."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        options = {"preset": "veryfast", "crf": "22", "threads": "1", "flags": "+bitexact"}
        # x264's macroblock tree reads memory it has not set: its output differs from run to run.
        options["x264-params"] = "mbtree=0"
        stream = container.add_stream("libx264", rate=Fraction(fps), options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def camera_for(head: Head, index: int, count: int, rng: np.random.Generator) -> Camera:
    """The head a little off the middle, all of it and some of the shoulders in the picture."""
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
    return json.dumps(truth, separators=(",", ":"))
