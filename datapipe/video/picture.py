"""Decoded frames as a careful player shows them: upright, of square pixels, progressive, in SDR."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt
from av.filter import Graph
from av.sidedata.sidedata import Type
from av.video.reformatter import VideoReformatter

from datapipe.errors import BadSample
from datapipe.record import Image, Transfer
from datapipe.video.tone import TRANSFERS, to_sdr

BT2020 = 9
"""FFmpeg's number of the matrix and primaries of HDR that does not name its own."""
UNNAMED = {2, 3}
"""FFmpeg's numbers of colours that are not named."""
UNDOABLE = {14, 15}
"""FFmpeg's numbers of colour matrices that it cannot undo: ICtCp and a relative."""
DOLBY_VISION = {"dvh1", "dvhe", "dva1", "dvav"}
"""Tags of streams that may hold no ordinary picture, only one for Dolby Vision's decoder."""
COLUMNS = 4
"""Of so many columns one is looked at for lines that alternate between two moments."""
THUMBNAIL = 160
"""Long side of a picture, pixels, up to which some pixels may be left out: five times as fast."""
STEP = 8
"""Levels of 255 by which a line must differ from both its neighbours to stand out."""
COMBED = 0.001
"""The share of pixels in lines that stand out below which nothing is called combed."""
OFTENER = 2.0
"""How many times more often lines of a frame stand out than lines of a field where it is combed."""


@dataclass(frozen=True, slots=True)
class Colours:
    """How a picture's numbers mean colours, by FFmpeg's numbers (ITU-T H.273)."""

    matrix: int
    primaries: int
    transfer: int

    @classmethod
    def of(cls, described: Any) -> Colours:
        """As a frame has them, or a codec context before anything is decoded with it."""
        return cls(described.colorspace, described.color_primaries, described.color_trc)

    def or_else(self, other: Colours) -> Colours:
        """These, where they are named."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in self.__slots__)
        return Colours(*(b if a in UNNAMED else a for a, b in pairs))


@dataclass(frozen=True, slots=True)
class Geometry:
    """What makes a stored picture upright and its pixels square."""

    width: int
    """Of the upright picture, in square pixels."""
    height: int
    turned: bool = False
    """Rows and columns change places, before it is mirrored."""
    left_right: bool = False
    """It is mirrored."""
    upside_down: bool = False

    @classmethod
    def of(cls, frame: Any, aspect: Fraction) -> Geometry:
        """By the frame's display matrix; `aspect` is a stored pixel's width over its height."""
        a, b, c, d = 1, 0, 0, 1
        for data in frame.side_data:
            if data.type is Type.DISPLAYMATRIX:
                a, b, _, c, d = (int(n) for n in np.frombuffer(data, np.int32)[:5])
        if abs(b) > abs(a):
            width = round_half_up(frame.height / aspect)
            return cls(width, frame.width, True, c < 0, b < 0)
        return cls(round_half_up(frame.width * aspect), frame.height, False, a < 0, d < 0)

    def scaled(self, long_side: int | None) -> tuple[int, int]:
        """Upright width and height, at most so long; never enlarged."""
        scale = (long_side or max(self.width, self.height)) / max(self.width, self.height)
        if scale >= 1:
            return self.width, self.height
        return max(1, round(self.width * scale)), max(1, round(self.height * scale))

    def within(self, width: int, height: int) -> tuple[int, int]:
        """The largest width and height of its shape that fit in."""
        scale = min(width / self.width, height / self.height)
        return max(1, round(self.width * scale)), max(1, round(self.height * scale))

    def upright(self, picture: Image) -> Image:
        if self.turned:
            picture = picture.transpose(1, 0, 2)
        across, down = 1 - 2 * self.left_right, 1 - 2 * self.upside_down
        return np.ascontiguousarray(picture[::down, ::across])


def round_half_up(number: float | Fraction) -> int:
    """As FFmpeg's own expressions round, unlike Python's `round`."""
    return max(1, int(number + Fraction(1, 2)))


class Painter:
    """Makes RGB pictures of one video's frames."""

    def __init__(self, frame: Any, stream: Any, declared: Colours) -> None:
        """The first frame tells what all are like, and `declared` what it leaves open.

        Raises BadSample: `unreadable`, `interlaced`.
        """
        codec = stream.codec_context
        colours = Colours.of(frame).or_else(declared)
        if colours.matrix in UNDOABLE:
            raise BadSample("unreadable", "its colours (ICtCp) cannot be converted")
        if codec.codec_tag in DOLBY_VISION and colours.transfer in UNNAMED:
            raise BadSample("unreadable", "Dolby Vision without an ordinary picture (profile 5)")
        if codec.codec.canonical_name == "hevc" and frame.interlaced_frame:
            raise BadSample("interlaced", "each of its pictures is one field (HEVC)")
        self._aspect = stream.sample_aspect_ratio or Fraction(1)
        self._stored = frame.width, frame.height
        self.geometry = Geometry.of(frame, self._aspect)
        self.transfer: Transfer = TRANSFERS.get(colours.transfer, "sdr")
        self._declared = declared
        self._scalers: dict[tuple[int, int], VideoReformatter] = {}

    def picture(self, frame: Any, long_side: int | None) -> Image:
        """The frame at full size, or with a long side of so many pixels where that is less.

        One of another shape than the first has black bars, as a player's window would have them.
        """
        size, geometry = self.geometry.scaled(long_side), self.geometry
        if (frame.width, frame.height) == self._stored:
            return self._levels(frame, geometry, size)
        geometry = Geometry.of(frame, self._aspect)
        inside = geometry.within(*size)
        left, top = (size[0] - inside[0]) // 2, (size[1] - inside[1]) // 2
        picture = np.zeros((size[1], size[0], 3), np.uint8)
        there = slice(top, top + inside[1]), slice(left, left + inside[0])
        picture[there] = self._levels(frame, geometry, inside)
        return picture

    def _levels(self, frame: Any, geometry: Geometry, size: tuple[int, int]) -> Image:
        """RGB of a frame scaled to an upright size."""
        colours = Colours.of(frame).or_else(self._declared)
        matrix = colours.matrix
        if self.transfer != "sdr" and matrix in UNNAMED:
            matrix = BT2020
        scaler = self._scalers.setdefault(size, VideoReformatter())
        width, height = size[::-1] if geometry.turned else size
        form = "rgb24" if self.transfer == "sdr" else "rgb48le"
        how = "FAST_BILINEAR" if max(size) <= THUMBNAIL else None
        scaled = scaler.reformat(frame, width, height, form, matrix, interpolation=how, threads=1)
        levels = scaled.to_ndarray()
        if self.transfer == "sdr":
            return geometry.upright(cast(Image, levels))
        deep = cast(npt.NDArray[np.uint16], levels)
        return geometry.upright(to_sdr(deep, self.transfer, colours.primaries))


def is_combed(frame: Any) -> bool:
    """Whether lines of two moments alternate in a frame, as its luma shows.

    Every other line then stands out from both its neighbours, by the same sign, more often than
    lines of one field do from theirs. In noise and in texture both are equally frequent.
    """
    if not frame.format.name.startswith(("yuv", "nv12", "gray", "p010")):
        return False
    plane, depth = frame.planes[0], frame.format.components[0].bits
    kind = np.uint8 if depth == 8 else np.uint16
    lines = np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width : COLUMNS]
    luma = (lines >> max(depth - 8, 0)).astype(np.int16)
    return _standing_out(luma, 1) > COMBED + OFTENER * _standing_out(luma, 2)


def _standing_out(luma: npt.NDArray[np.int16], apart: int) -> float:
    """The share of pixels that differ from both the one above and the one below, by one sign."""
    middle = luma[apart:-apart]
    above, below = middle - luma[: -2 * apart], middle - luma[2 * apart :]
    high = (above > STEP) & (below > STEP)
    low = (above < -STEP) & (below < -STEP)
    return float(np.mean(high | low)) if middle.size else 0.0


def deinterlaced(frames: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any, bool]]:
    """The same frames, and whether each was made whole from two fields of different moments.

    Neighbours tell what moves, so frames should come with those before and after them. The file's
    own word is not taken for it: progressive films are called interlaced, too.
    """
    graph: Graph | None = None
    last: tuple[int, Any] | None = None
    waiting = deque[tuple[int, bool]]()
    for index, frame in frames:
        shape = frame.width, frame.height, frame.format.name
        if graph is not None and last != (index - 1, shape):
            graph.vpush(None)
            yield from _pulled(graph, waiting)
            graph = None
        if graph is None:
            graph = _graph(frame)
        last = index, shape
        waiting.append((index, frame.interlaced_frame))
        frame.pts, frame.time_base = index, Fraction(1)
        graph.vpush(frame)
        yield from _pulled(graph, waiting)
    if graph is not None:
        graph.vpush(None)
        yield from _pulled(graph, waiting)


def _graph(frame: Any) -> Graph:
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1)
    )
    steps = [graph.add("idet"), graph.add("bwdif", "mode=send_frame:deint=interlaced")]
    graph.link_nodes(source, *steps, graph.add("buffersink"))
    graph.configure()
    return graph


def _pulled(graph: Graph, waiting: deque[tuple[int, bool]]) -> Iterator[tuple[int, Any, bool]]:
    while True:
        try:
            frame = graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
        index, marked = waiting.popleft()
        found = frame.metadata.get("lavfi.idet.multiple.current_frame")
        yield index, frame, found in ("tff", "bff") or (marked and found != "progressive")
