"""Frames by their place in a video's table: decoded from where they can be, clean ones only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
from av.video.frame import PictureType

from datapipe.video.judge import Judge
from datapipe.video.picture import Colours
from datapipe.video.table import (
    CLOCK_RESETS,
    Limits,
    Mark,
    mark,
    open_container,
    read_table,
    syntax_of,
)
from datapipe.video.twin import Twin, checksum

SKIPPING = {"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vc1", "wmv3"}
"""Codecs whose decoder leaves out, when told so, pictures that no other rests on."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Rows that are decoded in one go."""

    first: int
    last: int
    targets: frozenset[int]
    """Rows that are decoded whether others rest on them or not."""
    shown: frozenset[int]
    """Rows that are given out if they come out clean."""
    twin: Twin | None
    """What looks at the same packets; None: nothing does."""


class Reader:
    """One open video. Hostile input may hang or crash any call: it belongs in a child process.

    A frame is clean when nothing was wrong from the place where its decoding began up to itself,
    but with pictures that no other rests on. What a decoder makes up for damaged pictures is not
    given out, and neither is what was predicted from it.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        """Raises BadSample: `unreadable`, `no_video`, `too_large`."""
        self._path = path
        container = open_container(path)
        self.table = read_table(container, limits)
        self.decoded = 0
        """Frames that came out of the decoder so far, clean or not."""
        self._open(container)
        self.twin = Twin.of(self._codec, self._syntax)
        """What notices damage that the codec's own decoder hides; None where it hides none."""
        self.declared = Colours.of(self._codec)
        """The colours that the container names; decoding overwrites them."""
        self._frames = {int(row): frame for frame, row in enumerate(self.table.rows)}
        self._named = self._name_rows()

    def _name_rows(self) -> dict[tuple[int | str | None, ...], int]:
        """Rows by a name that no other has; by the simplest, since there are many."""
        table = self.table
        names = [
            tuple(_names(known, pts, position))
            for known, (pts, _), position in zip(
                table.marks, table.stamps, table.positions, strict=True
            )
        ]
        often = Counter(name for some in names for name in some)
        unique = (
            (next((n for n in some if often[n] == 1), None), row) for row, some in enumerate(names)
        )
        return {name: row for name, row in unique if name is not None}

    def _open(self, container: Any) -> None:
        self.container = container
        self.stream = container.streams[self.table.stream]
        self._codec = self.stream.codec_context
        self._codec.thread_count = 1  # a worker is one CPU
        self._codec.copy_opaque = True  # packets carry their row to the frames
        self._is_av1 = self._codec.codec.canonical_name == "av1"
        if self._is_av1:
            self._codec.options = {"strict": "1"}  # dav1d then checks how each tile's code ends
        self._skips = self._codec.codec.canonical_name in SKIPPING
        self._syntax = syntax_of(self.stream, container.format.name)

    def close(self) -> None:
        self.container.close()

    def read(self, frames: Collection[int], *, proven: bool = False) -> Iterator[tuple[int, Any]]:
        """PyAV's frames, those of the wanted ones that are clean, in the order of display.

        With `proven`, damage that a decoder hides is found, too; where it can hide any, that takes
        twice the time. (One that needs a second try, since the file takes for a key frame what is
        none, may come late.)
        """
        rows = sorted({int(self.table.rows[frame]) for frame in frames})
        yield from self._work(self._runs(rows, self.twin if proven else None))

    def sweep(
        self, first: int, last: int, frames: Collection[int], *, proven: bool = False
    ) -> Iterator[tuple[int, Any]]:
        """The wanted frames, and all others between two that have to be decoded anyway.

        Those are the ones that others rest on, in codecs that tell. In the order of display.
        `proven` as in `read`.
        """
        shown = frozenset(int(row) for row in self.table.rows[first : last + 1])
        targets = frozenset(int(self.table.rows[frame]) for frame in frames)
        begin = min(self.table.start_of(row) for row in (min(shown), int(self.table.rows[first])))
        twin = self.twin if proven else None
        yield from self._work([_Run(begin, max(shown), targets, shown, twin)])

    def _work(self, runs: Sequence[_Run]) -> Iterator[tuple[int, Any]]:
        for run in runs:
            absent, back = (yield from self._decode(run)), 1
            while absent and self._distrust(min(absent), back):
                again, absent = self._runs(sorted(absent), run.twin), set()
                for retry in again:
                    absent |= yield from self._decode(retry)
                back *= 2

    def _runs(self, rows: Sequence[int], twin: Twin | None) -> list[_Run]:
        """What to decode for ascending rows: apart where groups of pictures can be left out."""
        runs: list[_Run] = []
        for row in rows:
            first, last, targets = self.table.start_of(row), row, frozenset([row])
            if row + 1 in self.table.second_fields:
                last = row + 1
            while runs and first <= runs[-1].last + 1:
                before = runs.pop()
                first, targets = min(first, before.first), targets | before.targets
            runs.append(_Run(first, last, targets, targets, twin))
        return runs

    def _distrust(self, row: int, count: int) -> bool:
        """Forget the last starts up to a row; False where there is no earlier one to begin at."""
        starts = self.table.starts
        place = starts.index(self.table.start_of(row))
        del starts[max(1, place - count + 1) : place + 1]
        return place > 0

    def _decode(self, run: _Run) -> Generator[tuple[int, Any], None, set[int]]:
        """Decode a run; returns the targets that did not come out though nothing was wrong."""
        judge, left, doubted = Judge(self.table), set(run.shown), dict[int, int]()
        for frame in self._pictures(run, judge):
            row = frame.opaque[0]
            intra = frame.key_frame or frame.pict_type == PictureType.I
            if row == run.first and not intra and row != self.table.starts[0]:
                return left
            self.decoded += 1
            if run.twin is not None and not run.twin.agrees(row, frame):
                judge.fails(row)
            judge.comes_out(row, frame)
            yield from self._wanted(judge, left, doubted)
        judge.ends()
        yield from self._wanted(judge, left, doubted)
        sweeps = run.shown != run.targets  # in the order of display
        if doubted and not sweeps and not self._is_av1:
            yield from self._cleared(run, judge.harm, doubted)
        return {row for row in left & run.targets if judge.clean(row)}

    def _wanted(
        self, judge: Judge, left: set[int], doubted: dict[int, int]
    ) -> Iterator[tuple[int, Any]]:
        for row, frame in judge.settled():
            if row in left and judge.clean(row):
                left.discard(row)
                yield self._frames[row], frame
            elif row in left and judge.sound(row):
                doubted[row] = checksum(frame)

    def _cleared(
        self, run: _Run, harm: Collection[float], doubted: Mapping[int, int]
    ) -> Iterator[tuple[int, Any]]:
        """Pictures behind damage that are the same without it: they do not rest on it.

        Not so in AV1, whose decoder takes an older picture for one that it has given up.
        """
        once_more = replace(run, last=max(doubted), twin=None)
        for frame in self._pictures(once_more, Judge(self.table), frozenset(harm)):
            row = frame.opaque[0]
            if not frame.is_corrupt and doubted.get(row) == checksum(frame):
                yield self._frames[row], frame

    def _pictures(
        self, run: _Run, judge: Judge, without: Collection[float] = frozenset()
    ) -> Iterator[Any]:
        """All that the decoder gives, while the judge is told of all that goes in and wrong."""
        self._codec.flush_buffers()
        twin, telling = run.twin, self._syntax.complete or run.twin is not None
        if twin is not None:
            twin.restart(self._codec)
        for row, packet in self._packets(run.first):
            if row > run.last:
                break
            if twin is not None and not twin.follows(packet):
                judge.misses(row)
            first_field = row - 1 if row in self.table.second_fields else row
            wanted = first_field in run.targets
            reference = self._syntax.is_reference(packet)
            leading = self.table.pts[row] < self.table.pts[run.first]
            if leading or row in without or (not reference and not wanted):
                continue  # nothing that is wanted rests on it
            self._codec.skip_frame = "NONREF" if self._skips and not wanted else "DEFAULT"
            packet.opaque = [row]  # PyAV knows objects by identity: a number would not do
            judge.goes_in(row, reference, telling and row in self._frames)
            if twin is not None:
                twin.reads(packet, row, self._codec.skip_frame)
            frames = self._through(packet)
            if frames is None or row in self.table.torn:
                judge.fails(row)
            yield from frames or ()
        if twin is not None:
            twin.ends()
        yield from self._through(None) or ()
        self._codec.flush_buffers()

    def _through(self, packet: Any | None) -> list[Any] | None:
        """What comes out of the decoder when a packet goes in; None where it gives up on it."""
        try:
            frames: list[Any] = self._codec.decode(packet)
        except av.error.MemoryError:
            raise  # which is no fault of the file
        except av.FFmpegError:
            return None
        return frames

    def _packets(self, first: int) -> Iterator[tuple[int, Any]]:
        """Packets from a row on, with their rows, by whichever way leads there."""
        for way in self._ways(first):
            row = -1 if way is None else None
            arrived = False
            for packet in self._demux(way):
                here = self._row(packet)
                if here is None and row is None:
                    continue  # the tail of a picture that begins before the place sought
                row = here if here is not None else (row or 0) + 1
                if row > first and not arrived:
                    break
                arrived = True
                if row >= first:
                    yield row, packet
            if arrived:
                return

    def _ways(self, row: int) -> Iterator[dict[str, Any] | None]:
        """Arguments of seeks that should lead to a row or before it; last, None: begin anew."""
        if self.container.format.name in CLOCK_RESETS:
            if (position := self.table.positions[row]) is not None:
                yield {"offset": position, "unsupported_byte_offset": True}
        else:
            for stamp in self.table.stamps[row]:
                if stamp is not None:
                    yield {"offset": stamp, "stream": self.stream}
        yield None

    def _demux(self, way: dict[str, Any] | None) -> Iterator[Any]:
        """Packets from where a seek leads; where it fails, and at a file's early end, no more."""
        try:
            if way is None:
                self.container.close()
                self._open(open_container(self._path))
            else:
                self.container.seek(**way)
            syntax = syntax_of(self.stream, self.container.format.name)
            for packet in self.container.demux(self.stream):
                yield from syntax.unpack(packet)
        except av.error.MemoryError:
            raise
        except av.FFmpegError:
            return

    def _row(self, packet: Any) -> int | None:
        names = _names(mark(packet), packet.pts, packet.pos)
        return next((self._named[name] for name in names if name in self._named), None)


def _names(
    known: Mark, pts: int | None, position: int | None
) -> Iterator[tuple[int | str | None, ...]]:
    """What a packet can be known by: its data, or these with its time or its place.

    Time and place alone would not do: of a stream that is entered in the middle of a picture, the
    first packet has the next one's.
    """
    yield known
    yield (*known, "at", pts)
    yield (*known, "in", position)
