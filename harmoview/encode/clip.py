"""A clip's frames at the recipe's rate, cropped to a bucket."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from datapipe.errors import BadSample
from datapipe.prepare.video import Decoder, VideoInfo
from datapipe.record import Image
from harmoview.encode.buckets import Bucket, choose


def read_clip(
    decoder: Decoder, path: Path, buckets: Sequence[Bucket], fps: float
) -> tuple[Bucket, NDArray[np.uint8]]:
    """The bucket of a video and its middle, as RGB frames [F, H, W, 3].

    Raises BadSample where it cannot be decoded, lacks frames, or is shorter than every bucket;
    DecoderDied and DecodeTimeout as `Decoder` does.
    """
    info = decoder.probe(path)
    # the last frame is shown for as long as the others
    span = (info.frames - 1) / info.fps
    bucket = choose(buckets, info.height, info.width, span + 1e-6, fps)
    if bucket is None:
        shortest = min(b.frames for b in buckets) / fps
        raise BadSample("too_short", f"{info.seconds:.2f} s; the shortest bucket is {shortest:.2f}")
    wanted = frame_indices(info, bucket.frames, fps)
    found = {frame.index: frame.image for frame in decoder.frames(path, wanted)}
    if missing := sorted(set(wanted) - found.keys()):
        raise BadSample("unreadable", f"frames {missing[:5]} cannot be decoded")
    return bucket, np.stack([fit(found[index], bucket.height, bucket.width) for index in wanted])


def frame_indices(info: VideoInfo, frames: int, fps: float) -> list[int]:
    """The source frames nearest to `frames` moments at `fps`, around the middle of the video."""
    spare = (info.frames - 1) / info.fps - (frames - 1) / fps
    start = max(0.0, spare / 2)
    last = info.frames - 1
    return [min(last, round((start + k / fps) * info.fps)) for k in range(frames)]


def fit(picture: Image, height: int, width: int) -> Image:
    """Scaled to cover height x width, then the middle of it: nothing is distorted or invented."""
    scale = max(height / picture.shape[0], width / picture.shape[1])
    size = (
        max(width, round(picture.shape[1] * scale)),
        max(height, round(picture.shape[0] * scale)),
    )
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(picture, size, interpolation=how)
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    return np.ascontiguousarray(resized[top : top + height, left : left + width], dtype=np.uint8)
