"""Sparse decoding in a child process that may hang or crash without harm to the caller."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from datapipe.errors import BadSample, SampleError
from datapipe.record import Image

TRIES = 2
"""A request that kills its child, or hangs, is tried again: in a fresh child, without decord."""

_LENGTH = struct.Struct(">I")
_MAX_HEAD = 16 * 2**20


class DecoderDied(SampleError):
    """The decoding process crashed on this video each time."""

    reason = "decoder_died"


class DecodeTimeout(SampleError):
    """Decoding this video took longer than allowed each time."""

    reason = "timed_out"


@dataclass(frozen=True, slots=True)
class VideoLimits:
    """Guards against decompression bombs; a video over one is rejected as `too_large`."""

    bytes: int = 2 * 2**30
    """Size of the file."""
    pixels: int = 4096 * 2304
    """Of one frame; the default admits 4K and refuses 8K."""
    seconds: float = 900.0
    """Duration."""
    frames: int = 60_000
    """In the whole file."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value <= 0:
                raise ValueError(f"video limit {name} must be positive, not {value}")


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What is known of a video before its frames are looked at."""

    width: int
    """Of the full-size frame: upright, in square pixels."""
    height: int
    frames: int
    """By index, in order of display."""
    seconds: float
    fps: float
    """Average, as declared."""
    codec: str
    keyframes: tuple[int, ...]
    """Frames from which decoding can start, ascending."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame."""

    index: int
    timestamp: float
    """Seconds from the first frame."""
    image: Image = field(repr=False)


class Decoder:
    """Decodes in a child process, which is started on first use and kept for the next video.

    Each request has a wall-clock limit. A child that crashes or takes too long is killed, the
    request is tried once more by PyAV instead of decord; then DecoderDied or DecodeTimeout is
    raised.
    """

    def __init__(
        self,
        limits: VideoLimits | None = None,
        *,
        request_seconds: float = 60.0,
        memory_bytes: int = 4 * 2**30,
    ) -> None:
        """`memory_bytes` bounds the child's address space."""
        self.limits = limits or VideoLimits()
        self._seconds = request_seconds
        self._memory = memory_bytes
        self._child: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._avoid_decord: Path | None = None  # the video that it crashed or hung on

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: object, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Of the child; None while there is none."""
        return None if self._child is None else self._child.pid

    def probe(self, path: Path) -> VideoInfo:
        """Size, length and key frames; limits are checked on the header, before any decoding.

        Raises BadSample: `unreadable`, `no_video`, `too_large`.
        """
        size = path.stat().st_size
        if size == 0:
            raise BadSample("unreadable", "the file is empty")
        if size > self.limits.bytes:
            raise BadSample("too_large", f"{size} bytes are more than {self.limits.bytes}")
        head, _ = self._ask(path, {"do": "probe"})
        return VideoInfo(**{**head, "keyframes": tuple(head["keyframes"])})

    def frames(
        self, path: Path, indices: Iterable[int], long_side: int | None = None
    ) -> list[Frame]:
        """The frames at these indices, in ascending order, each once.

        `long_side` (pixels) scales them down while decoding; without it, or where the video is
        smaller, they are full size. Frames that are damaged or missing are left out.
        """
        wanted = sorted(set(indices))
        request = {"do": "frames", "indices": wanted, "long_side": long_side}
        head, images = self._ask(path, request)
        return [
            Frame(index, timestamp, image)
            for (index, timestamp, _, _), image in zip(head["frames"], images, strict=True)
        ]

    def close(self) -> None:
        """End the child process, whatever it is doing."""
        if self._socket is not None:
            self._socket.close()
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        self._child = self._socket = None

    def _ask(self, path: Path, request: dict[str, Any]) -> tuple[dict[str, Any], list[Image]]:
        failure: DecoderDied | DecodeTimeout | None = None
        for _ in range(TRIES):
            avoid = path == self._avoid_decord
            try:
                head, images = self._exchange({**request, "path": str(path), "avoid_decord": avoid})
            except TimeoutError:
                failure = DecodeTimeout(
                    f"decoding ({request['do']}): no answer within {self._seconds:g} s"
                )
            except ConnectionError:
                failure = DecoderDied(f"decoding ({request['do']}): {self._epitaph()}")
            except BaseException:
                self.close()  # half an answer may be under way
                raise
            else:
                if "rejected" in head:
                    raise BadSample(*head["rejected"])
                if "failed" in head:
                    raise RuntimeError(f"in the decoding process:\n{head['failed']}")
                return head, images
            self.close()
            self._avoid_decord = path
        assert failure is not None
        raise failure

    def _exchange(self, request: dict[str, Any]) -> tuple[dict[str, Any], list[Image]]:
        deadline = time.monotonic() + self._seconds
        link = self._socket or self._start(deadline)
        wants_pictures = request["do"] == "frames"
        _send(link, request, deadline)
        (length,) = _LENGTH.unpack(_receive(link, _LENGTH.size, deadline))
        if length > _MAX_HEAD:
            raise ConnectionError("the answer makes no sense")
        head = json.loads(bytes(_receive(link, length, deadline)))
        images = []
        for _, _, height, width in head.get("frames", ()) if wants_pictures else ():
            if height * width > self.limits.pixels * 2:
                raise ConnectionError("the answer makes no sense")
            data = _receive(link, height * width * 3, deadline)
            images.append(np.frombuffer(data, np.uint8).reshape(height, width, 3))
        return head, images

    def _start(self, deadline: float) -> socket.socket:
        here, there = socket.socketpair()
        root = str(Path(__file__).parents[2])
        inherited = os.environ.get("PYTHONPATH")
        paths = root if not inherited else f"{root}{os.pathsep}{inherited}"
        with there:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "datapipe.prepare.video_worker", str(there.fileno())],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # FFmpeg's chatter; what matters comes as an answer
                env={**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
            )
        self._socket = here
        limits = asdict(self.limits)
        del limits["bytes"]
        setup = {
            "limits": limits,
            "memory_bytes": self._memory,
            "request_seconds": self._seconds,
        }
        _send(here, setup, deadline)
        return here

    def _epitaph(self) -> str:
        assert self._child is not None
        try:
            code = self._child.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return "the decoding process stopped answering"
        cause = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return f"the decoding process ended by {cause}"


def _send(link: socket.socket, message: dict[str, Any], deadline: float) -> None:
    text = json.dumps(message).encode()
    link.settimeout(max(0.001, deadline - time.monotonic()))
    link.sendall(_LENGTH.pack(len(text)) + text)


def _receive(link: socket.socket, size: int, deadline: float) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        link.settimeout(max(0.001, deadline - time.monotonic()))
        count = link.recv_into(view)
        if count == 0:
            raise ConnectionError("the decoding process closed its end")
        view = view[count:]
    return data
