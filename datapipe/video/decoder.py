"""Frames of a video by time, from a child process that may hang or crash without harm."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from datapipe.errors import BadSample, SampleError
from datapipe.record import Image, Transfer

TRIES = 2
"""A request that kills its child, or hangs, is tried again in a fresh one."""
NEVER = float("inf")
READING = 20 * 2**20
"""Bytes of a file that are read a second, at least: a request may have to read all of them."""

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

    bytes: int = 32 * 2**30
    """Size of the file; two hours of 35 Mbit a second are as much. Of an object store or a tar it
    is copied to the worker's disk first."""
    pixels: int = 4096 * 2304
    """Of one frame; the default admits 4K and refuses 8K."""
    seconds: float = 3 * 3600.0
    """Duration."""
    frames: int = 700_000
    """In the whole file."""

    def __post_init__(self) -> None:
        """Raises ValueError for a limit that is not positive."""
        for name, value in asdict(self).items():
            if value <= 0:
                raise ValueError(f"video limit {name} must be positive, not {value}")


@dataclass(frozen=True, slots=True, eq=False)
class VideoInfo:
    """What is known of a video before its frames are looked at."""

    width: int
    """Of the full-size frame: upright, in square pixels."""
    height: int
    times: npt.NDArray[np.float64]
    """(frames,) seconds at which each frame is shown, from the first one on, ascending."""
    seconds: float
    """From the first frame's appearance to the last one's end."""
    codec: str
    keyframes: tuple[int, ...]
    """Frames from which decoding can start, ascending."""
    transfer: Transfer = "sdr"
    """What the file's numbers mean; pictures are always SDR."""
    hides_damage: bool = False
    """Whether pictures of this codec are known to be clean at full size only."""

    @property
    def frames(self) -> int:
        return len(self.times)

    @property
    def fps(self) -> float:
        """Frames a second on average, by the times at which they are shown."""
        if len(self.times) > 1 and self.times[-1] > 0:
            return (len(self.times) - 1) / float(self.times[-1])
        return len(self.times) / self.seconds if self.seconds > 0 else 0.0

    def at(self, seconds: float) -> int:
        """The frame that is shown at a time: the first before all, the last after all."""
        place = int(np.searchsorted(self.times, seconds, side="right")) - 1
        return max(0, place)


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame."""

    index: int
    """In the order of display."""
    timestamp: float
    """Seconds at which it is shown, from the first frame on."""
    image: Image = field(repr=False)
    deinterlaced: bool = False
    """Whether it was made whole from two fields of different moments."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Frames that a sweep gives out: how many, how large."""

    rate: float | None
    """Frames a second; None: as many as must be decoded anyway, fewer where that saves work."""
    long_side: int | None = None
    """Pixels; None: full size. Never enlarged."""
    loose: bool = False
    """Instead of a frame that nothing else needs decoded, the next one that must be will do."""
    chosen: Sequence[int] | None = None
    """These frames, ascending, and not those of a rate."""

    def frames(self, info: VideoInfo, start: float, end: float) -> list[int] | None:
        """Those shown at its moments from `start` on and before `end`, ascending."""
        if self.chosen is not None:
            return [index for index in self.chosen if start <= info.times[index] < end]
        if self.rate is None:
            return None
        moments = np.arange(start, min(end, info.seconds), 1 / self.rate)
        return sorted({info.at(float(moment)) for moment in moments})


class Decoder:
    """Decodes in a child process, which is started on first use and kept for the next video.

    Each request has a wall-clock limit, longer for large files (`READING`). A child that crashes
    or takes too long is killed and the request made once more; then DecoderDied or DecodeTimeout is
    raised. Only clean frames are given out: none that is damaged or was predicted from a damaged
    one (`datapipe.video.reader`).
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
        self._info: tuple[Path, VideoInfo] | None = None

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
        """Size, times and key frames; limits are checked on the header, before any decoding.

        Raises BadSample: `unreadable`, `no_video`, `too_large`, `damaged`, `interlaced`.
        """
        size = path.stat().st_size
        if size == 0:
            raise BadSample("unreadable", "the file is empty")
        if size > self.limits.bytes:
            raise BadSample("too_large", f"{size} bytes are more than {self.limits.bytes}")
        ((head, (times,)),) = self._ask(path, {"do": "probe"})
        info = VideoInfo(
            **{**head, "times": np.frombuffer(times), "keyframes": tuple(head["keyframes"])}
        )
        self._info = path, info
        return info

    def frames(
        self, path: Path, indices: Iterable[int], long_side: int | None = None
    ) -> list[Frame]:
        """The frames at these indices, in ascending order, each once.

        `long_side` (pixels) scales them down while decoding; without it, or where the video is
        smaller, they are full size. Frames that are damaged or missing are left out; where the
        video `hides_damage`, that takes a second decoder, which only looks on without `long_side`.
        """
        info = self._known(path)
        wanted = sorted(set(indices))
        request = {"do": "frames", "wanted": wanted, "long_side": long_side}
        found = [self._frame(info, *answer) for answer in self._ask(path, request)]
        return sorted(found, key=lambda frame: frame.index)

    def sweep(
        self, path: Path, passes: Sequence[Pass], start: float = 0.0, end: float = NEVER
    ) -> Iterator[tuple[int, Frame]]:
        """Frames shown from `start` on and before `end`, in order, with the number of their pass.

        However many passes there are, the video is decoded once; however long it is, a few frames
        are in memory. Damaged frames are left out, as by `frames`. The child is lost when the
        caller stops early.
        """
        info = self._known(path)
        first = info.at(start)
        last = max(first, int(np.searchsorted(info.times, end, side="left")) - 1)
        wanted = [(one.frames(info, start, end), one.long_side, one.loose) for one in passes]
        request = {"do": "sweep", "first": first, "last": last, "passes": wanted}
        for answer in self._answers(path, request, each=True):
            yield answer[0]["pass"], self._frame(info, *answer)

    def close(self) -> None:
        """End the child process, whatever it is doing."""
        if self._socket is not None:
            self._socket.close()
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        self._child = self._socket = None

    def _known(self, path: Path) -> VideoInfo:
        if self._info is None or self._info[0] != path:
            self.probe(path)
        assert self._info is not None
        return self._info[1]

    def _frame(self, info: VideoInfo, head: dict[str, Any], blocks: Sequence[bytearray]) -> Frame:
        index, (height, width) = head["frame"], head["size"]
        picture = np.frombuffer(blocks[0], np.uint8).reshape(height, width, 3)
        shown = round(float(info.times[index]), 4)
        return Frame(index, shown, picture, head["deinterlaced"])

    def _ask(self, path: Path, request: dict[str, Any]) -> list[_Answer]:
        return list(self._answers(path, request, each=False))

    def _answers(self, path: Path, request: dict[str, Any], *, each: bool) -> Iterator[_Answer]:
        """Answers of a child, and of a second one those that the first did not give.

        The limit of time is for `each` answer, or for all together.
        """
        failure: DecoderDied | DecodeTimeout | None = None
        given = set[tuple[int, int]]()
        seconds = self._seconds + path.stat().st_size / READING
        request = {**request, "path": str(path), "seconds": seconds}
        for _ in range(TRIES):
            try:
                for head, blocks in self._exchange(request, seconds, each):
                    place = head.get("frame", 0), head.get("pass", 0)
                    if place not in given:
                        given.add(place)
                        yield head, blocks
            except TimeoutError:
                failure = DecodeTimeout(
                    f"decoding ({request['do']}): no answer within {seconds:.3g} s"
                )
            except ConnectionError:
                failure = DecoderDied(f"decoding ({request['do']}): {self._epitaph()}")
            except (BadSample, RuntimeError):
                raise
            except BaseException:
                self.close()  # half an answer may be under way
                raise
            else:
                return
            self.close()
        assert failure is not None
        raise failure

    def _exchange(self, request: dict[str, Any], seconds: float, each: bool) -> Iterator[_Answer]:
        deadline = time.monotonic() + seconds
        link = self._socket or self._start(deadline)
        _send(link, request, deadline)
        while True:
            (length,) = _LENGTH.unpack(_receive(link, _LENGTH.size, deadline))
            if length > _MAX_HEAD:
                raise ConnectionError("the answer makes no sense")
            head = json.loads(bytes(_receive(link, length, deadline)))
            sizes = head.pop("blocks")
            if sum(sizes) > max(self.limits.pixels * 6, self.limits.frames * 8):
                raise ConnectionError("the answer makes no sense")
            blocks = [_receive(link, size, deadline) for size in sizes]
            if "end" in head:
                return
            if "rejected" in head:
                raise BadSample(*head["rejected"])
            if "failed" in head:
                raise RuntimeError(f"in the decoding process:\n{head['failed']}")
            yield head, blocks
            if each:
                deadline = time.monotonic() + seconds

    def _start(self, deadline: float) -> socket.socket:
        here, there = socket.socketpair()
        root = str(Path(__file__).parents[2])
        inherited = os.environ.get("PYTHONPATH")
        paths = root if not inherited else f"{root}{os.pathsep}{inherited}"
        with there:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "datapipe.video.worker", str(there.fileno())],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # FFmpeg's chatter; what matters comes as an answer
                env={**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
            )
        self._socket = here
        limits = asdict(self.limits)
        del limits["bytes"]
        _send(here, {"limits": limits, "memory_bytes": self._memory}, deadline)
        return here

    def _epitaph(self) -> str:
        assert self._child is not None
        try:
            code = self._child.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return "the decoding process stopped answering"
        cause = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return f"the decoding process ended by {cause}"


_Answer = tuple[dict[str, Any], list[bytearray]]


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
