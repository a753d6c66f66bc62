"""The videos of a package: nothing in a file tells where it is from."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np

from datapipe.errors import BadSample
from datapipe.record import Image
from harmoview.bench.video import FPS, standardised

Codec = Literal["h264", "vp9"]
SUFFIX: dict[Codec, str] = {"h264": ".mp4", "vp9": ".webm"}
MIME: dict[Codec, str] = {
    "h264": 'video/mp4; codecs="avc1.640028"',
    "vp9": 'video/webm; codecs="vp9"',
}
"""What a browser is asked whether it can play."""
_ENCODER: dict[Codec, tuple[str, str, dict[str, str]]] = {
    "h264": (
        "mp4",
        "libx264",
        {"preset": "medium", "crf": "17", "threads": "1", "x264-params": "mbtree=0"},
    ),
    "vp9": ("webm", "libvpx-vp9", {"crf": "24", "b": "0", "threads": "1", "cpu-used": "4"}),
}
BLUR = 0.03
"""Sigma of a gold item's spoilt copy, of the height."""


def plain_copy(path: Path, size: tuple[int, int], codec: Codec, *, blurred: bool = False) -> bytes:
    """A video at a size (width, height, both even) and 16 frames a second, without sound or marks.

    What has another shape gets black edges. Raises BadSample.
    """
    images = (_fitted(frame.image, size) for frame in standardised(path))
    if blurred:
        images = (cv2.GaussianBlur(image, (0, 0), BLUR * size[1]) for image in images)
    return _encode(images, size, codec)


def native_copy(path: Path) -> bytes:
    """The video's own pictures, in a container without its sound and marks. Raises BadSample."""
    out = io.BytesIO()
    try:
        with (
            av.open(str(path)) as source,
            av.open(out, "w", format="mp4", options={"fflags": "+bitexact"}) as target,
        ):
            stream = source.streams.video[0]
            copy = target.add_stream_from_template(stream)
            copy.metadata.clear()
            for packet in source.demux(stream):
                if packet.dts is not None:
                    packet.stream = copy
                    target.mux(packet)
    except (av.error.FFmpegError, IndexError, ValueError) as wrong:
        raise BadSample("unreadable", str(wrong)) from wrong
    return out.getvalue()


def _fitted(image: Image, size: tuple[int, int]) -> Image:
    wide, high = size
    scale = min(wide / image.shape[1], high / image.shape[0])
    inner = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    if inner == size and image.shape[:2] == (high, wide):
        return image
    small = cv2.resize(image, inner, interpolation=cv2.INTER_AREA)
    canvas = np.zeros((high, wide, 3), np.uint8)
    left, top = (wide - inner[0]) // 2, (high - inner[1]) // 2
    canvas[top : top + inner[1], left : left + inner[0]] = small
    return canvas


def _encode(images: Iterator[Image], size: tuple[int, int], codec: Codec) -> bytes:
    container, encoder, options = _ENCODER[codec]
    out = io.BytesIO()
    with av.open(out, "w", format=container, options={"fflags": "+bitexact"}) as file:
        stream = file.add_stream(
            encoder, rate=Fraction(FPS), options={**options, "flags": "+bitexact"}
        )
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for image in images:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode())
    return out.getvalue()
