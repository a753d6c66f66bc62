"""Frames to an mp4 file."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from datapipe.files import Folder


def write_mp4(path: Path, frames: NDArray[np.uint8], fps: int) -> None:
    """H.264 of RGB frames [F, H, W, 3], sides even; appears whole or not at all."""
    count, height, width, _ = frames.shape
    with (
        Folder(path.parent).create(path.name) as file,
        av.open(file, "w", format="mp4") as container,
    ):
        stream = container.add_stream("libx264", rate=fps, options={"crf": "16"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frames[index], format="rgb24")))
        container.mux(stream.encode())
