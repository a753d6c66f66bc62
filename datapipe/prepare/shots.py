"""Shots of a video: where one ends and the next begins, from small pictures in order of display."""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

import cv2
import numpy as np
import numpy.typing as npt

from datapipe.record import Image
from datapipe.video.decoder import VideoInfo

SIDE = 128
"""Long side of the pictures, pixels; 96 to 160 find the same cuts."""
CHANGE = 14.0
"""Mean difference in hue, saturation and value (0..255) between neighbours, of a cut at least."""
STANDS_OUT = 3.0
"""How many times that of its neighbours it must be: motion changes many pictures in a row."""
FLASH = 6
"""Pictures within which a flash has passed, and what was there before is back."""
RETURNED = 0.5
"""Share of a cut's difference under which two pictures show the same."""
FADE = 0.8
"""Seconds between the two pictures by which fades are found."""
FADED = 0.5
"""Share of a picture that has other colours than another, from which there was a fade."""
STEP = 0.1
"""Seconds between the pictures whose colours are counted, at least."""
LONGEST = 3.0
"""Seconds that a fade may take: colours that change for longer do so because the camera moves."""
TINY = 1e-3
"""Seconds by which times may be rounded."""
BLURRED = 0.4
"""Seconds before and after the middle of a fade that belong to no shot."""
NEAR = 1.0
"""Seconds in which a head keeps its place and its turn goes on, cut or not."""
CUT = 25.0
"""Mean change of grey levels between two frames that means another shot, whatever their times."""
KEPT = 64
"""Small pictures in memory by which edges of shots are compared with samples."""
CELL = 4
"""Pixels of a small picture, across and down, whose changes are averaged."""
STILL = 16.0
"""Mean change of a place, levels of 255, up to which the same is there."""

Clear = Callable[[float], bool]
"""Whether the picture of a time, in seconds, shows one shot alone."""


@dataclass(frozen=True, slots=True)
class ShotChange:
    """What parts two shots: a cut, or a fade, which belongs to neither."""

    last: float
    """Time of the last picture of the shot before, seconds."""
    first: float
    """Time of the first picture of the shot after."""

    def mixes(self, time: float) -> bool:
        """Whether the picture of a time may show something of both shots: a fade's edges are not
        exact."""
        fade = self.first - self.last >= BLURRED
        return fade and self.last - BLURRED < time < self.first + BLURRED


@dataclass(frozen=True, slots=True)
class Shot:
    """A span without a cut: seconds, from the first frame on."""

    start: float
    end: float
    """Exclusive."""


@dataclass(frozen=True, slots=True)
class _Small:
    """One picture as it counts here."""

    time: float
    hsv: Image


class ShotFinder:
    """Finds cuts and fades while pictures come in; a few of them are in memory.

    The pictures may leave out some frames: a cut then lies between two of them.
    """

    def __init__(self) -> None:
        self.changes: list[ShotChange] = []
        """In order of time; final before `settled`."""
        self._near: deque[_Small] = deque(maxlen=2 * FLASH + 2)
        self._steps: deque[float] = deque(maxlen=2 * FLASH + 1)
        """The difference of each picture in `_near` to the one before, but for the first."""
        self._colours: deque[tuple[float, npt.NDArray[np.float32]]] = deque()
        self._fading: list[float] = []
        self._ended = False

    @property
    def settled(self) -> float:
        """Seconds; whatever comes yet, there are no more changes before."""
        if self._ended:
            return inf
        if not self._near:
            return 0.0
        now = self._near[-1].time
        fading = [first for first in self._fading[:1] if now - first <= LONGEST]
        undecided = self._near[max(0, len(self._near) - FLASH - 2)].time
        return min(undecided, min([now, *fading]) - FADE - BLURRED)

    def add(self, time: float, picture: Image) -> None:
        """Take the next picture."""
        hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
        new = _Small(time, np.asarray(hsv, np.uint8))
        if self._near:
            self._steps.append(_difference(self._near[-1], new))
        self._near.append(new)
        self._cut_at(len(self._near) - 1 - FLASH)
        if not self._colours or time - self._colours[-1][0] >= STEP:
            self._fade(time, picture)

    def end(self) -> list[ShotChange]:
        """All changes, when no more pictures come."""
        for place in range(max(1, len(self._near) - FLASH), len(self._near)):
            self._cut_at(place)
        self._close_fade()
        self._ended = True
        return self.changes

    def _cut_at(self, place: int) -> None:
        """Decide whether a picture in `_near` begins a shot."""
        if place < 1:
            return
        step = self._steps[place - 1]
        if step <= CHANGE:
            return
        around = [s for at, s in enumerate(self._steps) if at != place - 1]
        if around and step <= STANDS_OUT * float(np.median(around)):
            return
        pictures = list(self._near)
        before, after = pictures[max(0, place - FLASH) : place], pictures[place : place + FLASH]
        if all(_difference(a, b) > RETURNED * step for a in before for b in after):
            self._add(ShotChange(before[-1].time, after[0].time))

    def _fade(self, time: float, picture: Image) -> None:
        colours = cv2.calcHist([picture], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3)
        share = np.asarray(colours, np.float32).ravel() / np.float32(picture.size / 3)
        self._colours.append((time, share))
        while len(self._colours) > 1 and self._colours[1][0] <= time - FADE:
            self._colours.popleft()
        earlier, before = self._colours[0]
        if time - earlier >= FADE / 2 and 1 - float(np.minimum(before, share).sum()) > FADED:
            self._fading.append(time)
        elif self._fading and time - self._fading[-1] > 2.5 * STEP:
            self._close_fade()

    def _close_fade(self) -> None:
        """What had other colours than what follows is parted from it, unless a cut parts them."""
        if not self._fading:
            return
        first, last = self._fading[0], self._fading[-1]
        self._fading = []
        if not FADE / 2 <= last - first <= LONGEST:  # shorter: a flash
            return
        if any(first - FADE <= change.first <= last + FADE for change in self.changes):
            return
        middles = sorted((first, max(0.0, last - FADE)))
        self._add(ShotChange(max(0.0, middles[0] - BLURRED), middles[1] + BLURRED))

    def _add(self, change: ShotChange) -> None:
        self.changes.append(change)
        self.changes.sort(key=lambda c: c.first)


class Stills:
    """How much pictures change between an edge of a shot and the sample next to it.

    Where a face's place hardly does, the face is there up to the edge, and nobody need look: to
    get at the last picture of a shot, all of it would be decoded once more.
    """

    def __init__(self) -> None:
        self._pictures: deque[tuple[float, Image]] = deque(maxlen=KEPT)
        self._sampled: deque[float] = deque(maxlen=KEPT)
        self._starts: list[float] = []  # of shots that have no sample yet
        self._known = 0
        self._grids: dict[float, Image] = {}

    def add(self, time: float, picture: Image, changes: Sequence[ShotChange]) -> None:
        """Take the next small picture, and all changes that were found so far."""
        self._pictures.append((time, picture))
        for change in changes[self._known :]:  # one that comes in amid the others is a fade
            before = [sampled for sampled in self._sampled if sampled <= change.last]
            self._compare(change.last, max(before, default=None))
            self._starts.append(change.first)
            self._settle_starts()
        self._known = len(changes)

    def sample(self, time: float) -> None:
        """A frame whose small picture came last is sampled."""
        self._sampled.append(time)
        self._settle_starts()

    def still(self, edge: float, box: Sequence[float]) -> bool:
        """Whether a place, in shares of the picture, looks alike at an edge and in the sample."""
        grid = self._grids.get(edge)
        if grid is None:
            return False
        height, width = grid.shape
        left, right = (int(np.clip(x * width, 0, width - 1)) for x in (box[0], box[2]))
        top, bottom = (int(np.clip(y * height, 0, height - 1)) for y in (box[1], box[3]))
        return float(grid[top : bottom + 1, left : right + 1].mean()) <= STILL

    def _settle_starts(self) -> None:
        waiting = []
        for start in self._starts:
            after = [sampled for sampled in self._sampled if sampled >= start]
            if after:
                self._compare(start, after[0])
            else:
                waiting.append(start)
        self._starts = waiting

    def _compare(self, edge: float, sampled: float | None) -> None:
        pictures = dict(self._pictures)
        if sampled is not None and {edge, sampled} <= pictures.keys():
            difference = cv2.absdiff(pictures[edge], pictures[sampled]).max(axis=2)
            size = max(1, difference.shape[1] // CELL), max(1, difference.shape[0] // CELL)
            grid = cv2.resize(difference, size, interpolation=cv2.INTER_AREA)
            self._grids[edge] = np.asarray(grid, np.uint8)


def find_changes(pictures: Sequence[tuple[float, Image]]) -> list[ShotChange]:
    """The changes in a whole row of pictures with their times."""
    finder = ShotFinder()
    for time, picture in pictures:
        finder.add(time, picture)
    return finder.end()


def steady(pictures: Sequence[Image]) -> bool:
    """Whether pictures that may be far apart in time look like one shot throughout."""
    small = [_Small(0.0, np.asarray(_shrunk(picture), np.uint8)) for picture in pictures]
    return all(_difference(*pair) <= CHANGE for pair in pairwise(small))


def _shrunk(picture: Image) -> Image:
    scale = SIDE / max(picture.shape[:2])
    if scale < 1:
        size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2HSV), np.uint8)


def shots(changes: Sequence[ShotChange], info: VideoInfo) -> list[Shot]:
    """The shots of a video, in order.

    Frames between the two pictures of a change belong to none: nobody has looked at them.
    """
    starts = [0.0, *(change.first for change in changes)]
    ends = [*(_next(info, change.last) for change in changes), info.seconds]
    return [Shot(*span) for span in zip(starts, ends, strict=True)]


def _next(info: VideoInfo, time: float) -> float:
    """When the frame after the one that is shown at a time appears."""
    place = info.at(time + TINY) + 1
    return float(info.times[place]) if place < info.frames else info.seconds


def _difference(one: _Small, other: _Small) -> float:
    return float(cv2.absdiff(one.hsv, other.hsv).mean())


def same_shot(info: VideoInfo, images: Mapping[int, Image], one: int, other: int) -> bool:
    """Whether two probed frames look alike and are near, or have no key frame between them."""
    near = abs(info.times[one] - info.times[other]) <= NEAR + 1e-6
    if not near and group_start(info, one) != group_start(info, other):
        return False
    change = cv2.absdiff(_thumbnail(images[one]), _thumbnail(images[other]))
    return float(change.mean()) < CUT


def _thumbnail(image: Image) -> Image:
    small: Image = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)
    return small


def group_start(info: VideoInfo, frame: int) -> int:
    """The key frame at a frame or before it, from which it is decoded; 0 where there is none."""
    place = bisect.bisect_right(info.keyframes, frame)
    return info.keyframes[place - 1] if place else 0
