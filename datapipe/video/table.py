"""Which frames a video presents, when, and from where they are decoded: read from its packets.

Nothing is decoded here. Packets that exist only to decode from (before the cut of a lossless trim,
say) are rows of the table and no frames of the video.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.stream import Disposition

from datapipe.errors import BadSample
from datapipe.video import h264
from datapipe.video.refusal import what_it_is

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf"
"""FFmpeg's demuxers that are let in. Playlists (hls, concat) are not: they open other files."""
CLOCK_RESETS = ("mpegts", "mpeg")
"""Containers whose clock may be set anew within the file; they are searched by byte instead."""
JUMP = 10.0
"""Seconds that such a clock may go forward between two packets and still be the same one; FFmpeg's
own tool has this bound, too. Back, it may go `STUTTER` seconds."""
STUTTER = 0.1
VP8_SHOWN = 0x10
"""Bit of a VP8 packet's first byte; without it the picture is only predicted from."""
STILL = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image

Seconds = npt.NDArray[np.float64]
Ticks = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a video may be; more is `too_large`."""

    pixels: int
    seconds: float
    frames: int

    def check_header(self, stream: Any, seconds: float) -> None:
        """Raises BadSample, by what the container says before anything is decoded."""
        wide = max(float(stream.sample_aspect_ratio or 1), 1.0)
        if stream.width * stream.height * wide > self.pixels:
            size = f"{stream.width} x {stream.height}"
            raise BadSample("too_large", f"{size} pixels are more than {self.pixels}")
        self.check_seconds(seconds)

    def check_seconds(self, seconds: float) -> None:
        if seconds > self.seconds:
            raise BadSample("too_large", f"{seconds:.0f} s is more than {self.seconds:g} s")

    def check_frames(self, frames: int) -> None:
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
    starts: list[int]
    """Rows at which decoding can start, ascending; at least one."""
    pts: Ticks
    """(rows,) in the stream's time base, ascending through a clock's resets."""
    stamps: list[tuple[int | None, int | None]]
    """(rows,) of presentation and of decoding, as the container has them."""
    positions: list[int | None]
    """(rows,) bytes in the file."""

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
    for stream in streams:
        limits.check_header(stream, (container.duration or 0) / av.time_base)
    found = {stream.index: _Packets(stream, container.format.name) for stream in streams}
    try:
        for packet in container.demux(streams):
            if packet.size:
                packets = found[packet.stream_index]
                packets.add(packet)
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


def _rank(stream: Any, frames: int) -> tuple[bool, bool, int, int]:
    """A film comes before a still, then the default stream, the largest, the first."""
    size = stream.width * stream.height
    return frames > 1, bool(stream.disposition & Disposition.default), size, -stream.index


@dataclass(slots=True)
class _Packets:
    """The packets of one stream, without their data."""

    stream: Any
    container: str
    pts: list[int | None] = field(default_factory=list)
    dts: list[int | None] = field(default_factory=list)
    durations: list[int] = field(default_factory=list)
    positions: list[int | None] = field(default_factory=list)
    hidden: set[int] = field(default_factory=set)
    """Rows that are decoded and not shown."""
    starts: list[int] = field(default_factory=list)
    parser: h264.Parser | None = None
    pictures: list[h264.Picture | None] = field(default_factory=list)
    """By row, of H.264 whose packets may be fields or lack times of display."""

    def __post_init__(self) -> None:
        if self._codec() == "h264":
            self.parser = h264.Parser(self.stream.codec_context.extradata)

    def add(self, packet: Any) -> None:
        """Raises BadSample `unreadable` where it is encrypted."""
        row = len(self.pts)
        if row == 0 and packet.has_sidedata("encryption_info"):
            raise BadSample("unreadable", "encrypted: its pictures cannot be decoded without a key")
        self.pts.append(packet.pts)
        self.dts.append(packet.dts)
        self.durations.append(packet.duration or 0)
        self.positions.append(packet.pos)
        if packet.is_discard or (self._codec() == "vp8" and not memoryview(packet)[0] & VP8_SHOWN):
            self.hidden.add(row)
        if packet.is_keyframe and (self.parser is None or self.parser.is_start(bytes(packet))):
            self.starts.append(row)
        if self.parser is not None:
            known = self.parser.parameters
            frames_only = known is not None and known.frames_only
            told = frames_only and packet.pts is not None and self.container != "avi"
            self.pictures.append(None if told else self.parser.picture(bytes(packet)))

    def table(self) -> Table:
        pairs = enumerate(h264.second_fields(self.pictures))
        seconds = {row for row, completes in pairs if completes}
        unit = float(self.stream.time_base)
        stamps = self._presentation()
        filled: list[int] = []
        for stamp in stamps:
            filled.append(stamp if stamp is not None else filled[-1] if filled else 0)
        pts = np.array(filled, np.int64)
        if self.container in CLOCK_RESETS:
            pts += self._resets(unit)
        unknown = {row for row, stamp in enumerate(stamps) if stamp is None}
        starts = self.starts or [0]
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
            starts=starts,
            pts=pts,
            stamps=list(zip(self.pts, self.dts, strict=True)),
            positions=self.positions,
        )

    def _presentation(self) -> list[int | None]:
        """When each packet's picture is shown.

        AVI has no such times, and FFmpeg gives H.264 in it those of decoding. They are right as a
        set; the pictures' own order tells which is whose.
        """
        told = [dts if pts is None else pts for pts, dts in zip(self.pts, self.dts, strict=True)]
        known = self.parser.parameters if self.parser is not None else None
        untold = self.container == "avi" or not any(pts is not None for pts in self.pts)
        if not untold or known is None or None in self.dts:
            return told
        order = h264.display_order(self.pictures, known.order_bits)
        ranked = sorted(range(len(order)), key=lambda row: (order[row], row))
        slots: list[int] = sorted(dts for dts in self.dts if dts is not None)
        return [slot for _, slot in sorted(zip(ranked, slots, strict=True))]

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

        In AVI all packets say the same, whatever it holds.
        """
        if not len(times):
            return 0.0
        last = self.durations[int(rows[-1])] * unit
        if last <= 0 or self.container == "avi":
            last = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
        return float(times[-1]) + last

    def _codec(self) -> str:
        return str(self.stream.codec_context.codec.canonical_name)
