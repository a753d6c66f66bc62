"""Reading the videos that are scored: the frames that a player presents, upright, each once."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from datapipe.errors import BadSample
from datapipe.record import Image
from datapipe.video.decoder import Decoder, Pass, VideoInfo

HEIGHT = 480
"""Pixels to which videos are brought before the project's own metrics look at them."""
FPS = 16
"""Frames a second, likewise: motion a frame and cosines would depend on both."""
SAMPLED = 32
"""Frames of a video that are looked at one by one, evenly spread, as OpenS2V-Eval does."""


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """One decoded frame."""

    index: int
    time: float
    """Seconds from the first frame."""
    image: Image


@cache
def _decoder() -> Decoder:
    """This process's one; what it decodes in ends with it."""
    decoder = Decoder()
    atexit.register(decoder.close)
    return decoder


def probe(path: Path) -> VideoInfo:
    """Size and times. Raises BadSample, and SampleError where decoding crashes or hangs."""
    return _decoder().probe(path)


def frames(path: Path) -> Iterator[VideoFrame]:
    """Every clean frame at full size, in order of display. Raises as `probe`."""
    info = probe(path)
    gap = float(np.diff(info.times).min()) if info.frames > 1 else 1.0
    every = Pass(rate=2 / max(gap, 1e-4))  # a moment in each frame, however short it is shown
    count = 0
    for _, frame in _decoder().sweep(path, [every]):
        count += 1
        yield VideoFrame(frame.index, frame.timestamp, frame.image)
    if count == 0:
        raise BadSample("damaged", "no frame is undamaged")


def standardised(path: Path) -> Iterator[VideoFrame]:
    """Frames at 16 a second and 480 pixels high: the last one shown at each tick.

    A damaged frame's place is taken by the clean one before it. Raises as `probe`.
    """
    ticks = _ticks(probe(path))
    tick, shown = 0, None
    for frame in frames(path):
        while shown is not None and tick < len(ticks) and ticks[tick] < frame.index:
            yield VideoFrame(tick, tick / FPS, shown)
            tick += 1
        shown = scaled(frame.image)
    assert shown is not None  # `frames` raises where there are none
    for last in range(tick, len(ticks)):
        yield VideoFrame(last, last / FPS, shown)


def sample(path: Path, count: int = SAMPLED) -> list[VideoFrame]:
    """Of the standardised frames, `count` spread evenly; each once. Raises as `probe`."""
    ticks = _ticks(probe(path))
    wanted = sample_indices(len(ticks), count)
    images = _images(path, {int(ticks[tick]) for tick in wanted})
    return [
        VideoFrame(tick, tick / FPS, scaled(images[int(ticks[tick])]))
        for tick in sorted(wanted)
        if int(ticks[tick]) in images
    ]


def raw_sample(path: Path, count: int = SAMPLED) -> list[Image]:
    """Of the frames as they are, `count` spread evenly, as OpenS2V-Eval takes them.

    A video of fewer frames gives some of them several times. Raises as `probe`.
    """
    indices = np.linspace(0, probe(path).frames - 1, count, dtype=int).tolist()
    images = _images(path, set(indices))
    return [images[index] for index in indices if index in images]


def sample_indices(total: int, count: int) -> set[int]:
    """`linspace(0, total - 1, count)`, cut to whole numbers."""
    return set(np.linspace(0, total - 1, count, dtype=int).tolist())


def scaled(image: Image) -> Image:
    """A picture at the standard height."""
    height, width = image.shape[:2]
    if height == HEIGHT:
        return image
    size = max(1, round(width * HEIGHT / height)), HEIGHT
    way = cv2.INTER_AREA if height > HEIGHT else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=way), np.uint8)


def _ticks(info: VideoInfo) -> npt.NDArray[np.int64]:
    """Which frame is shown at each sixteenth of a second."""
    count = max(1, ceil(round(info.seconds * FPS, 6)))
    moments = np.arange(count) / FPS + 1e-6  # a frame that is due at the moment is shown
    return np.maximum(np.searchsorted(info.times, moments, side="right") - 1, 0)


def _images(path: Path, indices: set[int]) -> dict[int, Image]:
    """The clean ones of these frames. Raises as `probe`, and BadSample where there are none."""
    found = {frame.index: frame.image for frame in _decoder().frames(path, indices)}
    if not found:
        raise BadSample("damaged", f"{len(indices)} of {len(indices)} frames are damaged")
    return found
