"""Motion of a whole video by optical flow: OpenS2V's amplitude, exactly, and what it misses."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from datapipe.record import Image
from harmoview.bench.scores import VideoScore
from harmoview.bench.video import FPS, HEIGHT, frames, standardised

Flow = npt.NDArray[np.float32]
"""(height, width, 2): pixels to the right and down."""
Grey = npt.NDArray[np.uint8]

COARSE = 16
"""Pixels to whose width OpenS2V shrinks every flow."""


def motion_scores(path: Path) -> list[VideoScore]:
    """`opens2v_amp` of the file as it is, `hv_flow` and `hv_interp` of the standardised video.

    Raises BadSample.
    """
    amplitude, used = opens2v_amplitude(frame.image for frame in frames(path))
    flow, interpolated, n = flow_and_interpolation(frame.image for frame in standardised(path))
    single = "the video has one frame"
    return [
        _score("opens2v_amp", amplitude, used + 1, used, single),
        _score("hv_flow", None if flow is None else flow * FPS / HEIGHT, n, max(0, n - 1), single),
        _score("hv_interp", interpolated, n, max(0, (n - 1) // 2), "fewer than three frames"),
    ]


def opens2v_amplitude(images: Iterable[Image]) -> tuple[float | None, int]:
    """OpenS2V-Eval's Motion Amplitude, and how many flows it rests on.

    The mean of all flows, shrunk, over time, place and both components, with its sign; then the
    absolute value. Opposite motions cancel. Red and blue are exchanged in the grey, as there.
    """
    coarse, before = [], None
    for image in images:
        grey: Grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        if before is not None:
            flow = _farneback(before, grey)
            height = int(flow.shape[0] * (COARSE / flow.shape[1]))
            coarse.append(cv2.resize(flow, (COARSE, height), interpolation=cv2.INTER_AREA))
        before = grey
    if not coarse:
        return None, 0
    mean = np.mean(np.mean(np.array(coarse), axis=0))
    return abs(float(mean)), len(coarse)


def flow_and_interpolation(images: Iterable[Image]) -> tuple[float | None, float | None, int]:
    """Mean length of the flow in pixels a frame; how well each second frame is told by its
    neighbours, 1 without error; the number of frames.

    The frame between two others is the mean of both, each warped half the way to the other.
    """
    lengths: list[float] = []
    errors: list[float] = []
    last: list[Grey] = []
    count = 0
    for image in images:
        grey: Grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if last:
            flow = _farneback(last[-1], grey)
            lengths.append(float(np.hypot(flow[..., 0], flow[..., 1]).mean()))
        if count % 2 == 0 and count >= 2:
            between = halfway(last[-2], grey)
            errors.append(float(np.abs(last[-1].astype(np.float32) - between).mean()) / 255)
        last = [*last[-1:], grey]
        count += 1
    flow_length = float(np.mean(lengths)) if lengths else None
    return flow_length, 1 - float(np.mean(errors)) if errors else None, count


def halfway(one: Grey, two: Grey) -> npt.NDArray[np.float32]:
    """The frame in the middle between two, by the flow from the first to the second and back."""
    forth, back = _farneback(one, two), _farneback(two, one)
    warped = (_warp(one, -0.5 * forth), _warp(two, -0.5 * back))
    return np.asarray((warped[0] + warped[1]) / 2, np.float32)


def _warp(grey: Grey, by: Flow) -> npt.NDArray[np.float32]:
    """The picture read at every pixel plus `by`; beyond the edge its last pixel."""
    high, wide = grey.shape
    x, y = np.meshgrid(np.arange(wide, dtype=np.float32), np.arange(high, dtype=np.float32))
    read = cv2.remap(
        grey.astype(np.float32),
        x + by[..., 0],
        y + by[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(read, np.float32)


def _farneback(one: Grey, two: Grey) -> Flow:
    return np.asarray(
        cv2.calcOpticalFlowFarneback(one, two, None, 0.5, 3, 15, 3, 5, 1.2, 0), np.float32
    )


def _score(metric: str, value: float | None, frames: int, used: int, why: str) -> VideoScore:
    if value is None:
        return VideoScore(metric, None, frames, used, status="not_applicable", reason=why)
    return VideoScore(metric, value, frames, used)
