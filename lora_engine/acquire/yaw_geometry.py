"""The geometry of yaw: beyond the profile, at frames yet to be seen, and of a head's square."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

from datapipe.prepare.frontal import FACE_CENTRE, FACE_SHARE
from datapipe.record import Pose

REACH = 10.0
"""Degrees by which a turn between two frames may go beyond the yaws of both."""
GAPS = 2
"""Gaps between frames in which a yaw is sought at a time."""
ACROSS = 0.62
"""How far the face box moves sideways from frontal to profile, in sides of the frontal box."""
DOWN = 0.07
"""How far it moves down. Both were measured on virtual subjects; see docs/pairs.md."""

PROFILE = 82.0
"""Reading, in degrees, from which a head may be in profile. Beyond it readings tell little: on
virtual subjects 3DDFA reads 87 to 98 at 80, and 83 to 98 at 90."""

Square = tuple[int, int, int, int]
"""Left, top, right, bottom; pixels."""


def yaw_of(pose: Pose) -> float:
    """Return yaw in degrees, also beyond 90, where Euler angles fold back.

    (yaw, pitch, roll) and (180 - yaw, pitch + 180, roll + 180) are one rotation, and estimators
    give the form with the smaller yaw. Heads do not hang upside down, so the form with less pitch
    and roll is meant: a profile read as 86 with pitch 170 and roll 170 is one of 94.
    """
    folded = abs(pose.pitch) + abs(pose.roll) > 180
    return math.copysign(180, pose.yaw) - pose.yaw if folded else pose.yaw


def in_profile(seen: Mapping[int, float], side: int) -> list[int]:
    """Find the frames in which the head has turned farthest, each time it turns to a profile.

    `seen` is the yaw by frame, `side` the sign. No reading can tell 80 from 90, but time can: the
    turning point is in the middle half of the stretch that reads more than `PROFILE`. A stretch
    that begins or ends with the clip counts as half of one.
    """
    frames = sorted(seen)
    beyond = [side * seen[frame] >= PROFILE for frame in frames]
    found: list[int] = []
    for first, last in _runs(beyond):
        start = _crossing(seen, frames, first, first - 1)
        end = _crossing(seen, frames, last, last + 1)
        if first == 0 and last < len(frames) - 1:
            start = 2 * frames[0] - end
        elif last == len(frames) - 1 and first > 0:
            end = 2 * frames[-1] - start
        middle, reach = (start + end) / 2, max(0.5, (end - start) / 4)
        found += [f for f in frames[first : last + 1] if abs(f - middle) <= reach]
    return found


def _runs(flags: Sequence[bool]) -> list[tuple[int, int]]:
    """Return the first and last place of each run of true flags."""
    places = [place for place, flag in enumerate(flags) if flag]
    starts = [p for p in places if p == 0 or not flags[p - 1]]
    ends = [p for p in places if p == len(flags) - 1 or not flags[p + 1]]
    return list(zip(starts, ends, strict=True))


def _crossing(seen: Mapping[int, float], frames: Sequence[int], inside: int, outside: int) -> float:
    """Return where yaw passes `PROFILE` between two neighbours, by a straight line.

    It is the frame inside where there is no neighbour outside, or one that looks the other way.
    """
    here = frames[inside]
    if not 0 <= outside < len(frames) or seen[frames[outside]] * seen[here] <= 0:
        return here
    there = frames[outside]
    at_here, at_there = abs(seen[here]), abs(seen[there])
    return here + (at_here - PROFILE) / (at_here - at_there) * (there - here)


def next_frames(
    seen: Mapping[int, float], wanted: Collection[int], tried: Collection[int]
) -> list[int]:
    """Return frames not tried yet in which the head may have a wanted yaw, or none.

    `seen` is the yaw by frame. A frame is sought on a straight line between two neighbours whose
    yaws enclose the wanted one, or half-way between two that come near it, because the head may
    have turned on between them and come back.
    """
    frames = sorted(seen)
    found: set[int] = set()
    for yaw in wanted:
        ranked = sorted(
            (_miss(seen[a], seen[b], yaw), a - b, a, b)
            for a, b in pairwise(frames)
            if _miss(seen[a], seen[b], yaw) <= REACH
        )
        places = (_between(a, b, seen[a], seen[b], yaw, tried) for _, _, a, b in ranked)
        found.update([place for place in places if place is not None][:GAPS])
    return sorted(found)


def _miss(one: float, other: float, yaw: float) -> float:
    """Return the degrees from a yaw to the range between two others; 0 inside."""
    return max(min(one, other) - yaw, yaw - max(one, other), 0.0)


def _between(
    a: int, b: int, at_a: float, at_b: float, yaw: float, tried: Collection[int]
) -> int | None:
    """Return the untried frame between two that is nearest to where the yaw is expected."""
    share = 0.5 if at_a == at_b or _miss(at_a, at_b, yaw) else (yaw - at_a) / (at_b - at_a)
    expected = a + share * (b - a)
    free = [frame for frame in range(a + 1, b) if frame not in tried]
    return min(free, key=lambda frame: (abs(frame - expected), frame), default=None)


def square_side(face: float, width: int, height: int) -> int:
    """Return the side of a subject's squares, pixels, for the size of the frontal face box."""
    return max(1, min(round(face / FACE_SHARE), width, height))


def head_square(
    box: tuple[float, float, float, float],
    yaw: float,
    frontal: float,
    side: int,
    frame: tuple[int, int],
) -> Square:
    """Place the square around a head, shifted to lie inside the frame.

    It is placed by the head's axis and not by the face, which a turn carries sideways: a head that
    only turns keeps its place, and so does what is behind it. `frontal` is the size of the frontal
    face box in pixels, `frame` the frame's width and height.
    """
    width, height = frame
    angle = math.radians(yaw)
    x = (box[0] + box[2]) / 2 - ACROSS * frontal * math.sin(angle)
    y = (box[1] + box[3]) / 2 - DOWN * frontal * (1 - math.cos(angle))
    left = max(0, min(round(x - side / 2), width - side))
    top = max(0, min(round(y - side * FACE_CENTRE), height - side))
    return left, top, left + side, top + side
