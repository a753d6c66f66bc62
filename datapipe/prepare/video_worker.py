"""The child process that decodes: `python -m datapipe.prepare.video_worker FD` serves one socket.

A request is a JSON object, an answer a JSON object and then the pictures' bytes; each object has
its length before it. Nothing here is pickled: what decodes strangers' files is not trusted.
"""

from __future__ import annotations

import json
import resource
import signal
import socket
import struct
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datapipe.errors import BadSample
from datapipe.prepare.video_reader import Clip, Header, read_header
from datapipe.record import Image

LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may be; see `datapipe.prepare.video.VideoLimits`."""

    pixels: int
    seconds: float
    frames: int

    def check(self, header: Header) -> None:
        """Raises BadSample `too_large`, from the header alone."""
        if header.width * header.height * max(float(header.aspect), 1.0) > self.pixels:
            size = f"{header.width} x {header.height}"
            raise BadSample("too_large", f"{size} pixels are more than {self.pixels}")
        if header.seconds > self.seconds:
            raise BadSample("too_large", f"{header.seconds:.0f} s is more than {self.seconds:g} s")
        self.check_frames(header.frames)

    def check_frames(self, frames: int) -> None:
        if frames > self.frames:
            raise BadSample("too_large", f"{frames} frames are more than {self.frames}")


class Worker:
    """Answers requests; keeps the last video open, since the next request is mostly about it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._opened: tuple[str, Clip] | None = None

    def probe(self, path: str, avoid_decord: bool) -> dict[str, Any]:
        self._opened = None
        header = read_header(Path(path))
        self._limits.check(header)
        clip = Clip(Path(path), header, avoid_decord=avoid_decord)
        self._limits.check_frames(len(clip.times))
        self._opened = path, clip
        return {
            "width": clip.width,
            "height": clip.height,
            "frames": len(clip.times),
            "seconds": max(header.seconds, float(clip.times[-1])),
            "fps": header.fps,
            "codec": header.codec,
            "keyframes": clip.keyframes,
        }

    def frames(
        self, path: str, avoid_decord: bool, indices: list[int], long_side: int | None
    ) -> tuple[dict[str, Any], list[Image]]:
        if self._opened is None or self._opened[0] != path:
            self.probe(path, avoid_decord)
        assert self._opened is not None
        clip = self._opened[1]
        found = clip.frames(indices, long_side)
        told = [
            [index, round(float(clip.times[index]), 4), *image.shape[:2]] for index, image in found
        ]
        return {"frames": told}, [image for _, image in found]

    def answer(self, request: dict[str, Any]) -> tuple[dict[str, Any], list[Image]]:
        do = request.pop("do")
        try:
            if do == "probe":
                return self.probe(**request), []
            return self.frames(**request)
        except BadSample as bad:
            return {"rejected": [bad.reason, bad.detail]}, []
        except Exception:  # noqa: BLE001 - told to the parent, which raises it
            self._opened = None
            return {"failed": traceback.format_exc()}, []


def serve(connection: socket.socket) -> None:
    stream = connection.makefile("rwb")
    setup = _receive(stream)
    if setup is None:
        return
    memory, seconds = setup["memory_bytes"], setup["request_seconds"]
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    worker = Worker(Limits(**setup["limits"]))
    while (request := _receive(stream)) is not None:
        # Should the parent die while this process hangs, the alarm ends it.
        signal.alarm(int(seconds) + 5)
        head, pictures = worker.answer(request)
        text = json.dumps(head).encode()
        stream.write(LENGTH.pack(len(text)) + text)
        for picture in pictures:
            stream.write(picture.data)
        stream.flush()
        signal.alarm(0)


def _receive(stream: Any) -> dict[str, Any] | None:
    """The next request; None when the parent has gone."""
    prefix = stream.read(LENGTH.size)
    if len(prefix) < LENGTH.size:
        return None
    request: dict[str, Any] = json.loads(stream.read(*LENGTH.unpack(prefix)))
    return request


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
