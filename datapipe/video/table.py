"""Which frames a video presents, when, and from where they are decoded: read from its packets.

Nothing is decoded here. Packets that exist only to decode from (before the cut of a lossless trim,
say) are rows of the table and no frames of the video.
"""

from __future__ import annotations

import bisect
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.stream import Disposition

from datapipe.errors import BadSample
from datapipe.video.h264 import H264
from datapipe.video.refusal import what_it_is
from datapipe.video.syntax import Hevc, Mpeg4, Syntax, Vp8

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf"
"""FFmpeg's demuxers that are let in. Playlists (hls, concat) are not: they open other files."""
CLOCK_RESETS = ("mpegts", "mpeg")
"""Containers whose clock may be set anew within the file; they are searched by byte instead."""
JUMP = 10.0
"""Seconds that such a clock may go forward between two packets and still be the same one; FFmpeg's
own tool has this bound, too. Back, it may go `STUTTER` seconds."""
STUTTER = 0.1
MARKED = 64
"""Bytes of a packet's head by which it is known again."""
STILL = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image

Mark = tuple[int, int]
"""Size and checksum of the head of a packet's data."""
Seconds = npt.NDArray[np.float64]
Ticks = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a video may be; more is `too_large`."""

    pixels: int
    seconds: float
    frames: int

    def check_size(self, stream: Any) -> None:
        """Raises BadSample `too_large`, by what the container says of its pictures."""
        wide = max(float(stream.sample_aspect_ratio or 1), 1.0)
        if stream.width * stream.height * wide > self.pixels:
            size = f"{stream.width} x {stream.height}"
            raise BadSample("too_large", f"{size} pixels are more than {self.pixels}")

    def check_seconds(self, seconds: float) -> None:
        """Raises BadSample `too_large` for a stream of so many seconds."""
        if seconds > self.seconds:
            raise BadSample("too_large", f"{seconds:.0f} s is more than {self.seconds:g} s")

    def check_frames(self, frames: int) -> None:
        """Raises BadSample `too_large` for a stream of so many frames."""
        if frames > self.frames:
            raise BadSample("too_large", f"more than {self.frames} frames")


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The frames of one stream. Its packets, in order of decoding, are called rows."""

    stream: int
    """Index in the container."""
    times: Seconds
    """(frames,) when each is shown, counted from the first one; ascending."""
    seconds: float
    """From the first frame's appearance to the last one's end."""
    rows: Ticks
    """(frames,) the row that holds each, or its first field."""
    second_fields: frozenset[int]
    """Rows that only complete the frame of the row before."""
    torn: frozenset[int]
    """Rows whose data may have a gap, as far as the container knows."""
    starts: list[int]
    """Rows at which decoding can start, ascending; at least one."""
    pts: Ticks
    """(rows,) in the stream's time base, ascending through a clock's resets."""
    stamps: list[tuple[int | None, int | None]]
    """(rows,) of presentation and of decoding, as the container has them."""
    positions: list[int | None]
    """(rows,) bytes in the file."""
    marks: list[Mark]
    """(rows,) what their data are known by, wherever in the file one begins to read."""

    def start_of(self, row: int) -> int:
        """The row at which to begin in order to decode this one.

        It is the last start that is not shown later: pictures that follow a start in the file and
        come before it on the screen (open groups of pictures) rest on the group before.
        """
        place = bisect.bisect_right(self.starts, row) - 1
        while place > 0 and self.pts[self.starts[place]] > self.pts[row]:
            place -= 1
        return self.starts[place]

    def keyframes(self) -> list[int]:
        """Frames at which decoding can start, ascending."""
        frames = np.flatnonzero(np.isin(self.rows, self.starts))
        return [int(frame) for frame in frames]


def mark(packet: Any) -> Mark:
    return packet.size, zlib.crc32(memoryview(packet)[:MARKED])


def open_container(path: Path) -> Any:
    """Raises BadSample `unreadable`, which says what the file is instead of a video."""
    try:
        return av.open(
            str(path),
            options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"},
            metadata_errors="replace",  # titles in any encoding; nobody reads them
        )
    except av.FFmpegError as wrong:
        known = what_it_is(path)
        raise BadSample("unreadable", known or f"not a readable video: {wrong.strerror}") from wrong


def read_table(container: Any, limits: Limits) -> Table:
    """Read all packets of an open container, as far as the file goes.

    Raises BadSample: `no_video`, `unreadable`, `too_large`.
    """
    streams = moving_streams(container)
    kind = container.format.name
    for stream in streams:
        limits.check_size(stream)
        limits.check_seconds(_declared(container, stream))
    found = {s.index: _Packets(s, kind, syntax_of(s, kind)) for s in streams}
    try:
        for packet in container.demux(streams):
            packets = found[packet.stream_index]
            for one in packets.syntax.unpack(packet):
                packets.add(one)
                limits.check_frames(len(packets.pts) - len(packets.hidden))
    except av.error.MemoryError:
        raise
    except av.FFmpegError:
        pass  # a file that ends early
    tables = [(packets.stream, packets.table()) for packets in found.values()]
    stream, table = max(tables, key=lambda pair: _rank(pair[0], len(pair[1].times)))
    if not len(table.times):
        raise BadSample("unreadable", "no picture in it has a time")
    limits.check_seconds(table.seconds)
    return table


def moving_streams(container: Any) -> list[Any]:
    """Streams of pictures that are no cover. Raises BadSample `no_video`, `unreadable`."""
    kind = container.format.name
    if not container.streams.video:
        raise BadSample("no_video", f"{kind} file without pictures, perhaps sound only")
    streams = [stream for stream in container.streams.video if not stream.disposition & STILL]
    if not streams:
        raise BadSample("no_video", f"{kind} file whose only picture is a cover")
    known = [stream for stream in streams if stream.codec_context is not None]
    if not known:
        raise BadSample("unreadable", "the codec of its pictures is not known")
    return known


def syntax_of(stream: Any, container: str) -> Syntax:
    """What is known of a stream's packets, by its codec."""
    match stream.codec_context.codec.canonical_name:
        case "h264":
            codec = stream.codec_context
            return H264(codec.extradata, container == "avi", codec.has_b_frames)
        case "hevc":
            return Hevc(stream.codec_context.extradata)
        case "mpeg4":
            return Mpeg4(stream)
        case "vp8":
            return Vp8()
    return Syntax()


def _declared(container: Any, stream: Any) -> float:
    """Seconds, as the container has it; 0 where that would mean nothing."""
    if container.format.name in CLOCK_RESETS:
        return 0.0
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / float(av.time_base)


def _rank(stream: Any, frames: int) -> tuple[bool, bool, int, int]:
    """A film comes before a still, then the default stream, the largest, the first."""
    size = stream.width * stream.height
    return frames > 1, bool(stream.disposition & Disposition.default), size, -stream.index


@dataclass(slots=True)
class _Packets:
    """The packets of one stream, without their data."""

    stream: Any
    container: str
    syntax: Syntax
    pts: list[int | None] = field(default_factory=list)
    dts: list[int | None] = field(default_factory=list)
    durations: list[int] = field(default_factory=list)
    positions: list[int | None] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    hidden: set[int] = field(default_factory=set)
    """Rows that are decoded and not shown."""
    torn: set[int] = field(default_factory=set)
    starts: list[int] = field(default_factory=list)

    def add(self, packet: Any) -> None:
        """Raises BadSample `unreadable` where it is encrypted."""
        row = len(self.pts)
        if row == 0 and packet.has_sidedata("encryption_info"):
            raise BadSample("unreadable", "encrypted: its pictures cannot be decoded without a key")
        self.pts.append(packet.pts)
        self.dts.append(packet.dts)
        self.durations.append(packet.duration or 0)
        self.positions.append(packet.pos)
        self.marks.append(mark(packet))
        if not self.syntax.is_shown(packet):
            self.hidden.add(row)
        if packet.is_corrupt:
            self.torn |= {row, row + 1}  # a transport stream tells it of either
        if self.syntax.is_start(packet):
            self.starts.append(row)
        self.syntax.note(packet)

    def table(self) -> Table:
        seconds = self.syntax.second_fields()
        unit = float(self.stream.time_base)
        stamps = self._presentation()
        filled: list[int] = []
        for stamp in stamps:
            filled.append(stamp if stamp is not None else filled[-1] if filled else 0)
        pts = np.array(filled, np.int64)
        if self.container in CLOCK_RESETS:
            pts += self._resets(unit)
        unknown = {row for row, stamp in enumerate(stamps) if stamp is None}
        starts = [row for row in self.starts if row not in seconds] or [0]
        # what precedes the first start, in the file or on the screen, has nothing to rest on
        shown = {row for row in range(starts[0], len(pts)) if pts[row] >= pts[starts[0]]}
        shown -= self.hidden | unknown | seconds
        rows = np.array(sorted(shown, key=lambda row: (pts[row], row)), np.int64)
        times: Seconds = (pts[rows] - pts[rows[:1]]).astype(np.float64) * unit
        return Table(
            stream=self.stream.index,
            times=times,
            seconds=self._end(times, rows, unit),
            rows=rows,
            second_fields=frozenset(seconds),
            torn=frozenset(self.torn),
            starts=starts,
            pts=pts,
            stamps=list(zip(self.pts, self.dts, strict=True)),
            positions=self.positions,
            marks=self.marks,
        )

    def _presentation(self) -> list[int | None]:
        """When each packet's picture is shown.

        AVI does not tell it, and neither does what Matroska took from AVI; what FFmpeg gives is
        when it is decoded, or a guess. There the pictures' own order counts: each is shown when the
        first has been, as soon as all that must be decoded before it is.
        """
        told = [dts if pts is None else pts for pts, dts in zip(self.pts, self.dts, strict=True)]
        untold = self.container == "avi" or not any(pts is not None for pts in self.pts)
        order = self.syntax.display_order() if untold or self.syntax.untold else None
        if order is None or None in self.dts:
            return told
        ranked = sorted(range(len(order)), key=lambda row: (order[row], row))
        delay = max((row - place for place, row in enumerate(ranked)), default=0)
        slots = sorted(dts for dts in self.dts if dts is not None)
        step = int(np.median(np.diff(slots))) if len(slots) > 1 else 1
        slots += [slots[-1] + step * more for more in range(1, delay + 1)]
        return [slot for _, slot in sorted(zip(ranked, slots[delay:], strict=True))]

    def _resets(self, unit: float) -> Ticks:
        """What to add to each row's stamps so that a clock that was set anew goes on."""
        shift, expected = 0, None
        shifts = []
        for dts, duration in zip(self.dts, self.durations, strict=True):
            if dts is not None:
                gap = 0 if expected is None else dts + shift - expected
                if gap * unit > JUMP or (gap + duration) * unit < -STUTTER:
                    shift -= gap
                expected = dts + shift + duration
            shifts.append(shift)
        return np.array(shifts, np.int64)

    def _end(self, times: Seconds, rows: Ticks, unit: float) -> float:
        """The last frame is shown as long as its packet says, else as long as the others.

        In AVI packets do not tell, and a field tells its own time.
        """
        if not len(times):
            return 0.0
        last = self.durations[int(rows[-1])] * unit
        if last <= 0 or self.container == "avi" or self.syntax.second_fields():
            last = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
        return float(times[-1]) + last
