"""Frames by their place in a video's table: decoded from where they can be, clean ones only."""

from __future__ import annotations

import bisect
from collections import Counter, deque
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import av
from av.video.frame import PictureType

from datapipe.video import h264
from datapipe.video.table import CLOCK_RESETS, Limits, Table, open_container, read_table

REORDERED = 20
"""Frames that may come out of a decoder before one that went in earlier; H.264 allows 16."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Rows that are decoded in one go."""

    first: int
    last: int
    targets: frozenset[int]
    """Rows that are decoded whether others rest on them or not."""
    shown: frozenset[int]
    """Rows that are given out if they come out clean."""


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
        self._frames = {int(row): frame for frame, row in enumerate(self.table.rows)}
        positions = self.table.positions
        self._by_position = None not in positions and len(set(positions)) == len(positions)
        marks = positions if self._by_position else [pts for pts, _ in self.table.stamps]
        often = Counter(marks)
        self._marked = {mark: row for row, mark in enumerate(marks) if often[mark] == 1}

    def _open(self, container: Any) -> None:
        self.container = container
        self.stream = container.streams[self.table.stream]
        self._codec = self.stream.codec_context
        self._codec.thread_count = 1  # a worker is one CPU
        self._codec.copy_opaque = True  # packets carry their row to the frames
        self._parser: h264.Parser | None = None
        if self._codec.codec.canonical_name == "h264":
            self._parser = h264.Parser(self._codec.extradata)

    def close(self) -> None:
        self.container.close()

    def read(self, frames: Collection[int]) -> Iterator[tuple[int, Any]]:
        """PyAV's frames, those of the wanted ones that are clean, in the order of display.

        (One that needs a second try, since the file takes for a key frame what is none, may come
        late.)
        """
        yield from self._work(self._runs(sorted({int(self.table.rows[frame]) for frame in frames})))

    def sweep(self, first: int, last: int, frames: Collection[int]) -> Iterator[tuple[int, Any]]:
        """The wanted frames, and all others between two that have to be decoded anyway.

        Those are the ones that others rest on, in codecs that tell. In the order of display.
        """
        shown = frozenset(int(row) for row in self.table.rows[first : last + 1])
        targets = frozenset(int(self.table.rows[frame]) for frame in frames)
        begin = min(self.table.start_of(row) for row in (min(shown), int(self.table.rows[first])))
        yield from self._work([_Run(begin, max(shown), targets, shown)])

    def _work(self, runs: Sequence[_Run]) -> Iterator[tuple[int, Any]]:
        for run in runs:
            absent, back = (yield from self._decode(run)), 1
            while absent and self._distrust(min(absent), back):
                again, absent = self._runs(sorted(absent)), set()
                for retry in again:
                    absent |= yield from self._decode(retry)
                back *= 2

    def _runs(self, rows: Sequence[int]) -> list[_Run]:
        """What to decode for ascending rows: apart where groups of pictures can be left out."""
        runs: list[_Run] = []
        for row in rows:
            first, last, targets = self.table.start_of(row), row, frozenset([row])
            if row + 1 in self.table.second_fields:
                last = row + 1
            while runs and first <= runs[-1].last + 1:
                before = runs.pop()
                first, targets = min(first, before.first), targets | before.targets
            runs.append(_Run(first, last, targets, targets))
        return runs

    def _distrust(self, row: int, count: int) -> bool:
        """Forget the last starts up to a row; False where there is no earlier one to begin at."""
        starts = self.table.starts
        place = starts.index(self.table.start_of(row))
        del starts[max(1, place - count + 1) : place + 1]
        return place > 0

    def _decode(self, run: _Run) -> Generator[tuple[int, Any], None, set[int]]:
        """Decode a run; returns the targets that did not come out though nothing was wrong."""
        judge, left = _Judge(self.table), set(run.shown)
        for frame in self._pictures(run, judge):
            row = frame.opaque[0]
            intra = frame.key_frame or frame.pict_type == PictureType.I
            if row == run.first and not intra and row != self.table.starts[0]:
                return left
            self.decoded += 1
            judge.comes_out(row, frame)
            yield from self._wanted(judge, left)
        judge.ends()
        yield from self._wanted(judge, left)
        return {row for row in left & run.targets if judge.clean(row)}

    def _wanted(self, judge: _Judge, left: set[int]) -> Iterator[tuple[int, Any]]:
        for row, frame in judge.settled():
            if row in left and judge.clean(row):
                left.discard(row)
                yield self._frames[row], frame

    def _pictures(self, run: _Run, judge: _Judge) -> Iterator[Any]:
        """All that the decoder gives, while the judge is told of all that goes in and wrong."""
        self._codec.flush_buffers()
        for row, packet in self._packets(run.first):
            if row > run.last:
                break
            first_field = row - 1 if row in self.table.second_fields else row
            wanted = first_field in run.targets
            reference = self._parser is None or self._parser.is_reference(bytes(packet))
            leading = self.table.pts[row] < self.table.pts[run.first]
            if leading or (not reference and not wanted):
                continue  # nothing that is wanted rests on it
            self._codec.skip_frame = "DEFAULT" if wanted else "NONREF"
            packet.opaque = [row]  # PyAV knows objects by identity: a number would not do
            judge.goes_in(row, reference, self._parser is not None and row in self._frames)
            frames = self._through(packet)
            if frames is None:
                judge.fails(row)
            yield from frames or ()
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
            if way is None:
                self.container.close()
                self._open(open_container(self._path))
            else:
                try:
                    self.container.seek(**way)
                except av.FFmpegError:
                    continue
            packets = self._demux()
            head = next(packets, None)
            if head is None:
                continue
            row = 0 if way is None else self._marked.get(self._mark(head))
            if row is None or row > first:
                continue
            row -= 1
            for packet in chain([head], packets):
                row = self._marked.get(self._mark(packet), row + 1)
                if row >= first:
                    yield row, packet
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

    def _demux(self) -> Iterator[Any]:
        try:
            yield from (packet for packet in self.container.demux(self.stream) if packet.size)
        except av.error.MemoryError:
            raise
        except av.FFmpegError:
            return  # a file that ends early

    def _mark(self, packet: Any) -> int | None:
        mark: int | None = packet.pos if self._by_position else packet.pts
        return mark


class _Judge:
    """Watches a decoder and tells which of its pictures are clean."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._harm: list[int] = []  # rows where something went wrong that others rest on
        self._lost: set[int] = set()  # rows where something went wrong that nothing rests on
        self._loose: set[int] = set()  # rows that nothing rests on
        self._awaited: dict[int, int] = {}  # rows to come out, with what had come out before
        self._held: deque[tuple[int, Any]] = deque()
        self._out = 0

    def goes_in(self, row: int, reference: bool, awaited: bool) -> None:
        if not reference:
            self._loose.add(row)
        if awaited:
            self._awaited[row] = self._out

    def fails(self, row: int) -> None:
        self._awaited.pop(row, None)
        if row in self._loose:
            self._lost.add(row)
        else:
            bisect.insort(self._harm, row)

    def comes_out(self, row: int, frame: Any) -> None:
        self._out += 1
        self._awaited.pop(row, None)
        if frame.is_corrupt:
            self.fails(row)
        self._held.append((row, frame))
        for late in [r for r, out in self._awaited.items() if self._out - out > REORDERED]:
            self.fails(late)

    def ends(self) -> None:
        """Nothing more comes out."""
        for row in list(self._awaited):
            self.fails(row)

    def settled(self) -> Iterator[tuple[int, Any]]:
        """Pictures on which the judgement is final: none before them is still to come out."""
        while self._held and next(iter(self._awaited), self._held[0][0] + 1) > self._held[0][0]:
            yield self._held.popleft()

    def clean(self, row: int) -> bool:
        """Whether all was well from the start of its decoding up to a row."""
        place = bisect.bisect_left(self._harm, self._table.start_of(row))
        inherits = place < len(self._harm) and self._harm[place] <= row
        return row not in self._lost and not inherits
