"""A clip's frames at the recipe's rate, cropped to a bucket."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from datapipe.errors import BadSample
from datapipe.prepare.video import Decoder, VideoInfo
from datapipe.record import Image
from harmoview.encode.buckets import Bucket, choose


@dataclass(frozen=True)
class Frames:
    """Which frames are taken of a clip, and at what size."""

    buckets: Sequence[Bucket]
    fps: float
    enlarged: float
    """Most that a clip may be enlarged to fill its bucket."""

    def read(self, decoder: Decoder, path: Path) -> tuple[Bucket, NDArray[np.uint8]]:
        """The bucket of a video and its middle, as RGB frames [F, H, W, 3].

        Raises BadSample where it cannot be decoded, lacks frames, is shorter than every bucket or
        much smaller than its own; DecoderDied and DecodeTimeout as `Decoder` does.
        """
        info = decoder.probe(path)
        # the last frame is shown for as long as the others
        span = (info.frames - 1) / info.fps
        bucket = choose(self.buckets, info.height, info.width, span + 1e-6, self.fps)
        if bucket is None:
            shortest = min(b.frames for b in self.buckets)
            raise BadSample(
                "too_short",
                f"{info.frames} frames at {info.fps:g} a second; the shortest bucket has "
                f"{shortest} at {self.fps:g}",
            )
        if cover(info.height, info.width, bucket) > self.enlarged:
            raise BadSample(
                "too_small",
                f"{info.width}x{info.height} would be enlarged more than {self.enlarged:g} times",
            )
        wanted = frame_indices(info, bucket.frames, self.fps)
        found = {frame.index: frame.image for frame in decoder.frames(path, wanted)}
        if missing := sorted(set(wanted) - found.keys()):
            raise BadSample("unreadable", f"frames {missing[:5]} cannot be decoded")
        fitted = {index: fit(image, bucket) for index, image in found.items()}
        return bucket, np.stack([fitted[index] for index in wanted])


def frame_indices(info: VideoInfo, frames: int, fps: float) -> list[int]:
    """The source frames nearest to `frames` moments at `fps`, around the middle of the video.

    The first moment is one of a source frame. Were it between two, a clip at the model's own rate
    would have some frames twice and miss others.
    """
    last = info.frames - 1
    steps = [math.floor(k * info.fps / fps + 0.5) for k in range(frames)]
    first = max(0, (last - steps[-1]) // 2)
    return [min(last, first + step) for step in steps]


def cover(height: int, width: int, bucket: Bucket) -> float:
    """How many times a picture is enlarged so that it covers the bucket."""
    return max(bucket.height / height, bucket.width / width)


def fit(picture: Image, bucket: Bucket) -> Image:
    """Scaled to cover the bucket, then the middle of it: nothing is distorted or invented."""
    own_height, own_width = picture.shape[:2]
    scale = cover(own_height, own_width, bucket)
    height = max(bucket.height, round(own_height * scale))
    width = max(bucket.width, round(own_width * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(picture, (width, height), interpolation=how)
    top, left = (height - bucket.height) // 2, (width - bucket.width) // 2
    middle = resized[top : top + bucket.height, left : left + bucket.width]
    return np.ascontiguousarray(middle, dtype=np.uint8)
