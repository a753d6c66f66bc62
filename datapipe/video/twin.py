"""A second decoder beside the first, for codecs whose decoders hide damage.

Arithmetic codes have no wrong values: after damage a decoder reads on, makes up a picture and says
nothing. Two that read on differently then show different pictures, and of sound data the same.
"""

from __future__ import annotations

import zlib
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.codec import codecs_available

from datapipe.video.syntax import Hevc, Syntax

OTHERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders of other people, which also notice where data end too early.

HEVC has only FFmpeg's. Its twin takes each row of blocks from where the slice's header says that it
begins, if it does, and not from where the row before has ended.
"""
BEHIND = bytes([0x5A]) * 8
"""What the twin finds behind the data of HEVC and VP8; the first decoder finds zeros there."""


class Twin:
    """Decodes the packets that the first decoder gets, and compares what comes of them."""

    def __init__(self, codec: Any, syntax: Syntax) -> None:
        """`codec` is the first decoder's context."""
        known = codec.codec.canonical_name
        name = OTHERS.get(known, codec.codec.name)
        self._prefix = syntax.prefix if isinstance(syntax, Hevc) else 0
        self._lengthens = known != "vp9"  # where what follows would be another picture
        self._codec: Any = av.CodecContext.create(name, "r")
        self._codec.extradata = codec.extradata
        self._codec.copy_opaque = True
        self._codec.thread_type = "SLICE"
        self._codec.thread_count = 2 if known == "hevc" else 1  # one takes no row by itself
        self._checksums: dict[int, int] = {}

    @classmethod
    def of(cls, codec: Any, syntax: Syntax) -> Twin | None:
        """None for codecs that tell of damage, and where PyAV was built without the other one."""
        known = codec.codec.canonical_name
        fit = known == "hevc" or OTHERS.get(known) in codecs_available
        return cls(codec, syntax) if fit else None

    def restart(self) -> None:
        self._codec.flush_buffers()
        self._checksums.clear()

    def reads(self, packet: Any, row: int, skip: str) -> None:
        """Take a packet before the first decoder gets it; `skip` is what that one skips."""
        data = bytes(packet)
        copy = av.Packet(lengthened(data, self._prefix) if self._lengthens else data)
        copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
        copy.opaque = [row]
        self._codec.skip_frame = skip
        self._through(copy)

    def ends(self) -> None:
        self._through(None)

    def agrees(self, row: int, frame: Any) -> bool:
        """Whether the second decoder made the same picture of a row."""
        return self._checksums.pop(row, None) == checksum(frame)

    def _through(self, packet: Any | None) -> None:
        try:
            for frame in self._codec.decode(packet):
                self._checksums[frame.opaque[0]] = checksum(frame)
        except av.error.MemoryError:
            raise
        except av.FFmpegError:
            return  # the picture will be missed


def lengthened(packet: bytes, prefix: int) -> bytes:
    """A packet with more bytes behind its last unit, which decoding should not reach.

    `prefix` bytes before each unit tell its size; 0: nothing does.
    """
    place = end = 0
    while prefix and end < len(packet):
        place = end
        end += prefix + int.from_bytes(packet[place : place + prefix], "big")
    unit = packet[place + prefix :] + BEHIND
    return packet[:place] + len(unit).to_bytes(max(prefix, 4), "big")[-prefix or 4 :] + unit


def checksum(frame: Any) -> int:
    """Of a PyAV frame's size and samples."""
    total = zlib.crc32(f"{frame.width}x{frame.height} {frame.format.name}".encode())
    for plane in frame.planes:
        total = zlib.crc32(np.ascontiguousarray(_samples(frame, plane)).data, total)
    return total


def _samples(frame: Any, plane: Any) -> npt.NDArray[np.uint8]:
    """The bytes of a plane without those that fill its lines up."""
    bits = frame.format.components[0].bits
    width = plane.width * (1 if bits <= 8 else 2) if len(frame.planes) > 1 else plane.line_size
    lines = np.frombuffer(plane, np.uint8)[: plane.height * plane.line_size]
    return lines.reshape(plane.height, plane.line_size)[:, :width]
