"""A second decoder beside the first, for codecs whose decoders hide damage.

Arithmetic codes have no wrong values: after damage a decoder reads on, makes up a picture and says
nothing. Two that read on differently then show different pictures, and of sound data the same.
H.264's slices also say where they end, so there the second only has to look for that.
"""

from __future__ import annotations

import zlib
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.codec import codecs_available

from datapipe.video.h264 import H264, HIGHER, heightened, heightened_parameters
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
        if isinstance(syntax, H264):
            return None if syntax.parameters is None else SliceEnds(codec, syntax)
        known = codec.codec.canonical_name
        fit = known == "hevc" or OTHERS.get(known) in codecs_available
        return cls(codec, syntax) if fit else None

    def restart(self, codec: Any) -> None:
        """Forget all; `codec` is the first decoder's context, which has done so."""
        self._codec.flush_buffers()
        self._checksums.clear()

    def reads(self, packet: Any, row: int, skip: str) -> None:
        """Take a packet before the first decoder gets it; `skip` is what that one skips."""
        copy = av.Packet(self._copied(packet))
        copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
        copy.opaque = [row]
        self._codec.skip_frame = skip
        self._through(copy)

    def follows(self, packet: Any) -> bool:
        """Whether no picture that others rest on is missing before it, as far as packets tell.

        To be asked of each, in order.
        """
        return True

    def ends(self) -> None:
        self._through(None)

    def agrees(self, row: int, frame: Any) -> bool:
        """Whether the second decoder made the same picture of a row."""
        return self._checksums.pop(row, None) == checksum(frame)

    def _copied(self, packet: Any) -> bytes:
        data = bytes(packet)
        return lengthened(data, self._prefix) if self._lengthens else data

    def _take(self, frame: Any) -> None:
        self._checksums[frame.opaque[0]] = checksum(frame)

    def _through(self, packet: Any | None) -> None:
        try:
            for frame in self._codec.decode(packet):
                self._take(frame)
        except av.error.MemoryError:
            raise
        except av.FFmpegError:
            return  # the picture will be missed


class SliceEnds(Twin):
    """H.264's twin takes pictures for some rows of blocks higher than they are.

    FFmpeg stops where the picture is full, whether the slice ends there or not. This one goes on
    where it does not, and counts what it then finds in the rows that should be left out.
    """

    def __init__(self, codec: Any, syntax: H264) -> None:
        assert syntax.parameters is not None
        self._syntax = syntax
        self._latest: int | None = None
        self._prefix = syntax.prefix
        self._codec = av.CodecContext.create(codec.codec.name, "r")
        self._codec.extradata = heightened_parameters(codec.extradata or b"") or None
        self._codec.copy_opaque = True
        self._codec.thread_count = 1  # more do not count
        self._codec.options = {
            "skip_bottom": str(HIGHER if syntax.parameters.frames_only else 2 * HIGHER),
            "skip_loop_filter": "all",  # nobody looks at the pictures
        }
        self._whole: set[int] = set()

    def restart(self, codec: Any) -> None:
        self._codec.flush_buffers()
        self._codec.reorder_depth = codec.reorder_depth  # so that pictures come out together
        self._whole.clear()
        self._latest = None

    def follows(self, packet: Any) -> bool:
        picture, latest = self._syntax.picture(bytes(packet)), self._latest
        known = self._syntax.parameters
        if picture is None or known is None or known.gaps:
            return True
        if picture.reference:
            self._latest = picture.number
        begins = picture.number < 2  # a stream may count anew without a key frame
        following = () if latest is None else (latest, (latest + 1) % (1 << known.frame_bits))
        return latest is None or begins or picture.number in following

    def agrees(self, row: int, frame: Any) -> bool:
        """Whether each slice of a row ended where the next began, or the picture did."""
        whole = row in self._whole
        self._whole.discard(row)
        return whole

    def _copied(self, packet: Any) -> bytes:
        data = heightened(bytes(packet), self._prefix)
        if packet.has_sidedata("new_extradata"):
            data = heightened_parameters(bytes(packet.get_sidedata("new_extradata"))) + data
        return data

    def _take(self, frame: Any) -> None:
        if not frame.is_corrupt:
            self._whole.add(frame.opaque[0])


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
