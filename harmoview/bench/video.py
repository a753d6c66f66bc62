"""Reading the videos that are scored: the one place that decodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from datapipe.errors import BadSample
from datapipe.record import Image

HEIGHT = 480
"""Pixels to which videos are brought before the project's own metrics look at them."""
FPS = 16
"""Frames a second, likewise: motion a frame and cosines would depend on both."""
SAMPLED = 32
"""Frames of a video that are looked at one by one, evenly spread, as OpenS2V-Eval does."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame."""

    index: int
    time: float
    """Seconds from the first frame."""
    image: Image


def frames(path: Path) -> Iterator[Frame]:
    """Every frame as it is in the file, in order of display. Raises BadSample `unreadable`."""
    number = 0
    try:
        with av.open(str(path)) as file:
            stream = next(iter(file.streams.video), None)
            if stream is None:
                raise BadSample("no_video", "the file has no pictures")
            rate = float(stream.average_rate or FPS)
            first: float | None = None
            for frame in file.decode(stream):
                time = number / rate if frame.time is None else float(frame.time)
                first = time if first is None else first
                yield Frame(number, time - first, frame.to_ndarray(format="rgb24"))
                number += 1
    except (av.error.FFmpegError, ValueError) as wrong:
        raise BadSample("unreadable", f"frame {number}: {wrong}") from wrong
    if number == 0:
        raise BadSample("unreadable", "no frame can be decoded")


def standardised(path: Path) -> Iterator[Frame]:
    """Frames at 16 a second and 480 pixels high: the last one shown at each tick.

    A video's last frame is shown as long as those before it on average. Raises BadSample.
    """
    tick, shown, last = 0, None, 0.0
    for frame in frames(path):
        while shown is not None and tick / FPS < frame.time - 1e-6:
            yield Frame(tick, tick / FPS, shown)
            tick += 1
        shown, last = _scaled(frame.image), frame.time
        count = frame.index + 1
    assert shown is not None  # `frames` raises where there are none
    end = last + (last / (count - 1) if count > 1 else 1 / FPS)
    while tick / FPS < end - 1e-6 or tick == 0:
        yield Frame(tick, tick / FPS, shown)
        tick += 1


def sample(path: Path, count: int = SAMPLED) -> list[Frame]:
    """Of the standardised frames, `count` spread evenly; each once. Raises BadSample."""
    total = sum(1 for _ in standardised(path))
    wanted = sample_indices(total, count)
    return [frame for frame in standardised(path) if frame.index in wanted]


def raw_sample(path: Path, count: int = SAMPLED) -> list[Image]:
    """Of the frames as they are, `count` spread evenly, as OpenS2V-Eval takes them.

    A video of fewer frames gives some of them several times. Raises BadSample.
    """
    total = sum(1 for _ in frames(path))
    indices = np.linspace(0, total - 1, count, dtype=int)
    kept = {f.index: f.image for f in frames(path) if f.index in set(indices.tolist())}
    return [kept[int(index)] for index in indices]


def sample_indices(total: int, count: int) -> set[int]:
    """`linspace(0, total - 1, count)`, cut to whole numbers."""
    return set(np.linspace(0, total - 1, count, dtype=int).tolist())


def _scaled(image: Image) -> Image:
    height, width = image.shape[:2]
    if height == HEIGHT:
        return image
    size = max(1, round(width * HEIGHT / height)), HEIGHT
    way = cv2.INTER_AREA if height > HEIGHT else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=way), np.uint8)
