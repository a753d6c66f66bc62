"""The child process that decodes: `python -m datapipe.video.worker FD` serves one socket.

A request is a JSON object. An answer is a JSON object that tells the sizes of the blocks of bytes
that follow it; each object has its own length before it. Nothing here is pickled: what decodes
strangers' files is not trusted.
"""

from __future__ import annotations

import bisect
import json
import resource
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2

from datapipe.errors import BadSample
from datapipe.video.picture import Painter, deinterlaced, is_combed
from datapipe.video.reader import Reader
from datapipe.video.table import Limits

LENGTH = struct.Struct(">I")
TRIED = 16
"""Frames, spread over a video, of which one must be clean; the first one is, as a rule."""

Answer = tuple[dict[str, Any], list[memoryview]]


@dataclass(slots=True)
class _Taker:
    """Which frames of a sweep one of its passes gets; asked of each, in order, more than once."""

    wanted: list[int] | None
    """None: all that come."""
    long_side: int | None
    loose: bool
    """Instead of each that is wanted, the first that comes from there on will do."""
    _taken: set[int] = field(default_factory=set)
    _next: int = 0

    def takes(self, index: int) -> bool:
        if self.wanted is None or index in self._taken:
            return True
        place = bisect.bisect_right(self.wanted, index, lo=self._next)
        if place == self._next or (not self.loose and self.wanted[place - 1] != index):
            return False
        self._next = place
        self._taken.add(index)
        return True


def _any(index: int) -> bool:
    return True


class Clip:
    """One open video and what makes its frames pictures."""

    def __init__(self, path: Path, limits: Limits) -> None:
        """Raises BadSample: `unreadable`, `no_video`, `too_large`, `damaged`, `interlaced`."""
        self.reader = Reader(path, limits)
        self.table = self.reader.table
        self.codec = str(self.reader.stream.codec_context.codec.canonical_name)
        self._painter = Painter(self._first_clean(), self.reader.stream, self.reader.declared)
        self._fields = False  # whether a frame was seen that is called interlaced or looks so

    def _first_clean(self) -> Any:
        count = len(self.table.times)
        places = dict.fromkeys(count * part // TRIED for part in range(TRIED))
        for place in places:
            for _, frame in self.reader.read([place]):
                return frame
        if not self.reader.decoded:
            raise BadSample("unreadable", f"no {self.codec} picture could be decoded")
        raise BadSample("damaged", f"{len(places)} of {len(places)} frames looked at are damaged")

    def about(self) -> dict[str, Any]:
        geometry = self._painter.geometry
        return {
            "width": geometry.width,
            "height": geometry.height,
            "seconds": self.table.seconds,
            "codec": self.codec,
            "transfer": self._painter.transfer,
            "keyframes": self.table.keyframes(),
            "hides_damage": self.reader.twin is not None,
        }

    def frames(self, wanted: Collection[int], long_side: int | None) -> Iterator[Answer]:
        """Each clean frame, with its picture."""
        for index, frame, two_fields in self._whole(wanted, None, long_side is None, _any):
            yield self._answer(0, index, frame, two_fields, long_side)

    def sweep(
        self, first: int, last: int, passes: Sequence[tuple[list[int] | None, int | None, bool]]
    ) -> Iterator[Answer]:
        """Frames of several passes at once, in the order of display; see `Decoder.sweep`."""
        takers = [_Taker(*one) for one in passes]
        exact = {index for one in takers if not one.loose for index in one.wanted or ()}
        proven = any(one.long_side is None for one in takers)

        geometry = self._painter.geometry

        def lines(long_side: int | None) -> bool:
            """Whether single lines can be told apart in a picture of that size."""
            return long_side is None or 2 * long_side > max(geometry.width, geometry.height)

        def fine(index: int) -> bool:
            return any(lines(one.long_side) and one.takes(index) for one in takers)

        for index, frame, two_fields in self._whole(exact, (first, last), proven, fine):
            for number, one in enumerate(takers):
                if one.takes(index):
                    yield self._answer(number, index, frame, two_fields, one.long_side)

    def _answer(
        self, number: int, index: int, frame: Any, two_fields: bool, long_side: int | None
    ) -> Answer:
        picture = self._painter.picture(frame, long_side)
        told = {"pass": number, "frame": index, "deinterlaced": two_fields}
        return {**told, "size": picture.shape[:2]}, [picture.data]

    def _whole(
        self,
        wanted: Collection[int],
        span: tuple[int, int] | None,
        proven: bool,
        fine: Callable[[int], bool],
    ) -> Iterator[tuple[int, Any, bool]]:
        """Clean frames, each one moment; with whether it was made of two.

        Whether lines of two moments alternate is looked for in those that are `fine`.
        """
        if not self._fields:
            for index, frame in self._plain(wanted, span, proven):
                if frame.interlaced_frame or (fine(index) and is_combed(frame)):
                    self._fields = True
                    break
                yield index, frame, False
            else:
                return
            wanted = [one for one in wanted if one >= index]
            span = None if span is None else (index, span[1])
        some = set(wanted if span is None else range(span[0], span[1] + 1))
        near = {place for one in some for place in (one - 1, one, one + 1)}
        near &= set(range(len(self.table.times)))
        for index, frame, two_fields in deinterlaced(self.reader.read(near, proven=proven)):
            if index in some:
                yield index, frame, two_fields

    def _plain(
        self, wanted: Collection[int], span: tuple[int, int] | None, proven: bool
    ) -> Iterator[tuple[int, Any]]:
        if span is None:
            return self.reader.read(wanted, proven=proven)
        return self.reader.sweep(*span, wanted, proven=proven)


class Worker:
    """Answers requests; keeps the last video open, since the next request is mostly about it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._opened: tuple[str, Clip] | None = None

    def answers(self, request: dict[str, Any]) -> Iterator[Answer]:
        """What to send for a request; the last answer says `end`, or what went wrong."""
        do, path = request.pop("do"), request.pop("path")
        try:
            if do == "probe" or self._opened is None or self._opened[0] != path:
                self._close()
                self._opened = path, Clip(Path(path), self._limits)
            clip = self._opened[1]
            if do == "probe":
                yield clip.about(), [clip.table.times.data]
            else:
                yield from getattr(clip, do)(**request)
        except BadSample as bad:
            yield {"rejected": [bad.reason, bad.detail]}, []
        except Exception:  # noqa: BLE001 - told to the parent, which raises it
            self._opened = None
            yield {"failed": traceback.format_exc()}, []
        else:
            yield {"end": True}, []

    def _close(self) -> None:
        if self._opened is not None:
            self._opened[1].reader.close()
        self._opened = None


def serve(connection: socket.socket) -> None:
    stream = connection.makefile("rwb")
    setup = _receive(stream)
    if setup is None:
        return
    memory = setup["memory_bytes"]
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    cv2.setNumThreads(1)
    worker = Worker(Limits(**setup["limits"]))
    while (request := _receive(stream)) is not None:
        patience = int(request.pop("seconds")) + 5
        # Should the parent die while this process hangs, the alarm ends it.
        signal.alarm(patience)
        for head, blocks in worker.answers(request):
            signal.alarm(0)  # the parent may take its time
            text = json.dumps({**head, "blocks": [block.nbytes for block in blocks]}).encode()
            stream.write(LENGTH.pack(len(text)) + text)
            for block in blocks:
                stream.write(block)
            stream.flush()
            signal.alarm(patience)
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
