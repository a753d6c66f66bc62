"""Makers of small test videos, sound and unsound."""

from __future__ import annotations

import multiprocessing
import random
import struct
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from datapipe.record import Image


def numbered(count: int, width: int = 320, height: int = 240) -> list[Image]:
    """Frames that tell themselves apart: a number and a bar that moves; red at the top left."""
    frames = []
    for index in range(count):
        frame = np.full((height, width, 3), 40, np.uint8)
        frame[: height // 2, : width // 2] = (200, 60, 60)
        left = index * (width - 8) // max(1, count - 1)
        frame[-20:, left : left + 8] = 255
        where = (width // 3, height * 2 // 3)
        cv2.putText(frame, str(index), where, cv2.FONT_HERSHEY_SIMPLEX, 2, (255, 255, 255), 3)
        frames.append(frame)
    return frames


def write_video(
    path: Path,
    frames: Iterable[Image],
    *,
    fps: int = 25,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    gop: int = 250,
    bframes: int = 2,
    stamps: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
) -> Path:
    """Encode frames: the same ones, the same bytes, on any number of cores.

    `stamps` are times of display in units of 1 / fps.
    """
    options = dict(options or {})
    if codec == "libx264":
        # its macroblock tree reads memory that it has not set
        steady = ["mbtree=0", "cpu-independent=1"]
        options["x264-params"] = ":".join(steady + options.get("x264-params", "").split())
        options.setdefault("preset", "veryfast")
    stamps_left = None if stamps is None else iter(stamps)
    with av.open(str(path), "w", options={"fflags": "+bitexact", **(container or {})}) as file:
        stream = file.add_stream(codec, rate=fps, options=options)
        stream.codec_context.thread_count = 1  # more write other bytes
        stream.pix_fmt = pixels
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = bframes
        for index, frame in enumerate(frames):
            if index == 0:
                stream.height, stream.width = frame.shape[:2]
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.pts = index if stamps_left is None else next(stamps_left)
            file.mux(stream.encode(picture))
        file.mux(stream.encode())
    return path


def write_av1(path: Path, frames: Sequence[Image], **options: Any) -> Path:
    """`write_video` for AV1, in a process of its own.

    As root, SVT-AV1 makes the process that encodes a real-time one for good, and with it every
    process that this one starts.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as elsewhere:
        made = elsewhere.submit(write_video, path, frames, codec="libsvtav1", bframes=0, **options)
    return made.result()


def write_sound(path: Path) -> Path:
    """A media file without pictures."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def turn(path: Path, out: Path, height: int) -> Path:
    """A copy of an mp4 that players show turned by 90 degrees clockwise."""
    data = bytearray(path.read_bytes())
    matrix = data.find(b"tkhd") + 4 + 40
    struct.pack_into(">9i", data, matrix, 0, 65536, 0, -65536, 0, 0, height << 16, 0, 1 << 30)
    out.write_bytes(data)
    return out


def cut(path: Path, out: Path, share: float) -> Path:
    """The first part of a file."""
    data = path.read_bytes()
    out.write_bytes(data[: int(len(data) * share)])
    return out


def damaged(path: Path, out: Path, seed: int) -> Path:
    """A copy with random bytes at some places, as `seed` has it: 5 x 8, 2 x 8 or 1 x 40 bytes."""
    data, rng = bytearray(path.read_bytes()), random.Random(seed)
    spots, length = ((5, 8), (2, 8), (1, 40))[seed % 3]
    for _ in range(spots):
        at = rng.randrange(len(data) // 20, len(data) * 9 // 10)
        data[at : at + length] = rng.randbytes(length)
    out.write_bytes(data)
    return out


def decode_all(path: Path) -> list[Image]:
    """Every frame, decoded one after the other."""
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
