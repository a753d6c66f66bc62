"""Pictures at the size at which they are encoded, and frames written to a video file."""

from __future__ import annotations

import io
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from datapipe.files import Folder
from datapipe.record import Image


def square(picture: Image, size: int) -> Image:
    """Cut the middle square of a picture and scale it to `size` pixels: no border is invented."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = picture[top : top + side, left : left + side]
    shrinks = side > size
    resized = cv2.resize(
        middle, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    )
    return np.asarray(resized, dtype=np.uint8)


def write_mp4(path: str | Path, frames: NDArray[np.uint8], fps: int) -> None:
    """Encode RGB frames [F, H, W, 3], of even sides, with H.264; the file appears whole or not."""
    Folder(Path(path).parent).put(Path(path).name, encode_mp4(frames, fps))


def encode_mp4(frames: NDArray[np.uint8], fps: int) -> bytes:
    """Encode RGB frames [F, H, W, 3], of even sides, as H.264; the same frames, the same bytes."""
    count, height, width, _ = frames.shape
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        # x264's macroblock tree reads memory that it has not set, so its output would vary
        options = {"crf": "16", "threads": "1", "x264-params": "mbtree=0"}
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frames[index], format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()
