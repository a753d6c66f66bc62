"""Reading one video file: its header, and single frames by index, scaled on the way.

decord reads; PyAV, which carries a newer FFmpeg, takes over where decord gives up: codecs that its
FFmpeg does not know (AV1) and files that end too early or are damaged inside. Both may hang or
crash on hostile input, so this module is for the child process of `datapipe.prepare.video`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, cast

import av
import decord
import numpy as np
from numpy.typing import NDArray

from datapipe.errors import BadSample
from datapipe.record import Image

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf"
"""FFmpeg's demuxers that are let in. Playlists (hls, concat) are not: they open other files."""

MAX_SPAN = 1e7
"""Seconds; a time stamp beyond this is a missing one."""

decord.logging.set_level(decord.logging.QUIET)


@dataclass(frozen=True, slots=True)
class Header:
    """What the container says before anything is decoded."""

    codec: str
    width: int
    """As coded: before rotation, in the file's own pixels."""
    height: int
    aspect: Fraction
    """Width of a pixel over its height."""
    seconds: float
    frames: int
    """As declared, or from duration and frame rate; 0 when the file says neither."""
    fps: float


def read_header(path: Path) -> Header:
    """Raises BadSample: `unreadable`, or `no_video`."""
    try:
        with _open(path) as container:
            if not container.streams.video:
                raise BadSample("no_video", f"{container.format.name} file without pictures")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise BadSample("unreadable", "the codec of its pictures is not known")
            fps = float(stream.average_rate or stream.guessed_rate or 0)
            known = stream.duration is not None and stream.time_base is not None
            seconds = float(stream.duration * stream.time_base) if known else 0.0
            seconds = max(seconds, (container.duration or 0) / av.time_base)
            return Header(
                codec=stream.codec_context.codec.canonical_name,
                width=stream.width,
                height=stream.height,
                aspect=stream.sample_aspect_ratio or Fraction(1),
                seconds=seconds,
                frames=stream.frames or round(seconds * fps),
                fps=fps,
            )
    except av.FFmpegError as wrong:
        raise BadSample("unreadable", f"not a readable video: {wrong.strerror}") from wrong


class Reader(Protocol):
    """Frames of one file at one size, upright."""

    keyframes: list[int]
    times: NDArray[np.float64]
    """(frames,) seconds from the first frame, in order of display."""

    def read(self, indices: Iterable[int]) -> Iterator[tuple[int, Image]]:
        """The frames at ascending indices; those that do not decode are left out."""


class DecordReader:
    """Raises decord.DECORDError or RuntimeError, here and in `read`, where decord gives up."""

    def __init__(self, path: Path, size: tuple[int, int] | None) -> None:
        width, height = size or (-1, -1)
        # One thread: a worker is one CPU of the pool, and each further thread holds frames.
        self._video = decord.VideoReader(str(path), width=width, height=height, num_threads=1)
        self.keyframes = [int(index) for index in self._video.get_key_indices()]
        times = self._video.get_frame_timestamp(np.arange(len(self._video)))[:, 0]
        self.times = times.astype(np.float64) - float(times[0])
        if np.any(np.diff(self.times) <= 0) or self.times[-1] > MAX_SPAN:
            raise RuntimeError("no times of display (AVI): decord would give the wrong frames")

    def read(self, indices: Iterable[int]) -> Iterator[tuple[int, Image]]:
        for index in indices:
            yield index, cast(Image, self._video[index].asnumpy())


class AvReader:
    """The same by PyAV. Raises BadSample when no packet can be placed in time."""

    def __init__(self, path: Path, size: tuple[int, int] | None) -> None:
        self._path, self._size = path, size
        packets = sorted(_packets(path))
        if not packets:
            raise BadSample("unreadable", "no picture packet with a timestamp")
        self._stamps = [stamp for stamp, _, _ in packets]
        self.keyframes = [index for index, (_, is_key, _) in enumerate(packets) if is_key]
        step = float(packets[0][2])
        self.times = (np.array(self._stamps, np.float64) - self._stamps[0]) * step

    def read(self, indices: Iterable[int]) -> Iterator[tuple[int, Image]]:
        with _open(self._path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "NONE"
            if container.format.name == "avi":
                yield from self._count(container.decode(stream), indices)
            else:
                yield from self._seek(container, stream, indices)

    def _seek(
        self, container: Any, stream: Any, indices: Iterable[int]
    ) -> Iterator[tuple[int, Image]]:
        frames: Iterator[Any] = iter(())
        position = len(self._stamps)
        for index in indices:
            if index >= len(self._stamps):  # decord, which gave up, had promised more frames
                return
            if index < position or any(position < key <= index for key in self.keyframes):
                try:
                    container.seek(self._stamps[index], stream=stream)
                except av.FFmpegError:  # a stamp that the container's own index cannot reach
                    position = len(self._stamps)
                    continue
                frames = container.decode(stream)
            position = index + 1
            frame = self._advance(frames, self._stamps[index])
            if frame is None:
                position = len(self._stamps)  # the decoder is spent: the next one seeks
            else:
                yield index, self._picture(frame)

    def _count(self, frames: Iterator[Any], indices: Iterable[int]) -> Iterator[tuple[int, Image]]:
        """AVI has no times of display, so that seeking would find the wrong frames."""
        left = sorted(indices, reverse=True)
        try:
            for position, frame in enumerate(frames):
                if left and position == left[-1]:
                    yield left.pop(), self._picture(frame)
                if not left:
                    return
        except av.FFmpegError:
            return

    @staticmethod
    def _advance(frames: Iterator[Any], stamp: int) -> Any | None:
        """The frame shown at a time stamp; None when it is damaged or missing."""
        try:
            for frame in frames:
                if frame.pts is not None and frame.pts >= stamp:
                    return frame if frame.pts == stamp else None
        except av.FFmpegError:
            return None
        return None

    def _picture(self, frame: Any) -> Image:
        turned = frame.rotation % 180 != 0
        width, height = self._size or (None, None)
        if turned:
            width, height = height, width
        picture = frame.to_ndarray(format="rgb24", width=width, height=height)
        return np.ascontiguousarray(np.rot90(picture, frame.rotation // 90))


class Clip:
    """One open video. Raises BadSample: `unreadable`."""

    def __init__(self, path: Path, header: Header, *, avoid_decord: bool = False) -> None:
        self._path = path
        self._kind: type[DecordReader] | type[AvReader] = DecordReader
        if avoid_decord:
            self._kind = AvReader
        self._readers: dict[tuple[int, int] | None, Reader] = {}
        self._full: tuple[int, int] | None = None  # as the file has it
        # The first frame tells how the file is turned; decord does not say it otherwise.
        picture = self._first_picture()
        if picture is None:
            raise BadSample("unreadable", f"no {header.codec} picture could be decoded")
        height, width = picture.shape[:2]
        turned = (width, height) == (header.height, header.width)
        aspect = 1 / header.aspect if turned and width != height else header.aspect
        self.width, self.height = round(width * aspect), height
        if self.width != width:
            self._full = self.width, self.height
        index = self._reader(self._full)
        self.keyframes, self.times = index.keyframes, index.times

    def frames(self, indices: Sequence[int], long_side: int | None) -> list[tuple[int, Image]]:
        """Frames at ascending indices, in square pixels, never enlarged; damaged ones left out."""
        scale = (long_side or max(self.width, self.height)) / max(self.width, self.height)
        if scale >= 1:
            return self._read(indices, self._full)
        small = max(1, round(self.width * scale)), max(1, round(self.height * scale))
        return self._read(indices, small)

    def _first_picture(self) -> Image | None:
        """The first frame, or one further on when that is damaged."""
        if first := self._read([0], None):
            return first[0][1]
        count = len(self._reader(None).times)
        later = self._reader(None).read(sorted({count * part // 5 for part in range(1, 5)}))
        return next((picture for _, picture in later), None)

    def _read(
        self, indices: Sequence[int], size: tuple[int, int] | None
    ) -> list[tuple[int, Image]]:
        if self._kind is DecordReader:
            try:
                return list(self._reader(size).read(indices))
            except (decord.DECORDError, RuntimeError):
                self._kind, self._readers = AvReader, {}
        return list(self._reader(size).read(indices))

    def _reader(self, size: tuple[int, int] | None) -> Reader:
        if size not in self._readers:
            self._readers[size] = self._kind(self._path, size)
        return self._readers[size]


def _open(path: Path) -> Any:
    return av.open(
        str(path),
        options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"},
        metadata_errors="replace",  # titles in any encoding; nobody reads them
    )


def _packets(path: Path) -> Iterator[tuple[int, bool, Fraction]]:
    """Time stamp, key frame or not, and time unit of each picture, as far as the file goes."""
    with _open(path) as container:
        stream = container.streams.video[0]
        try:
            for packet in container.demux(stream):
                if packet.pts is not None and packet.size:
                    yield packet.pts, packet.is_keyframe, packet.time_base
        except av.FFmpegError:
            return
