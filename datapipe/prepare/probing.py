"""Which frames of a clip to look at: evenly first, then towards frontal faces."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence

import cv2

from datapipe.errors import BadSample
from datapipe.prepare.identities import Person, Sighting
from datapipe.prepare.video import VideoInfo
from datapipe.record import Image

REACH = 0.25
"""Share of a group of pictures, from its key frame on, that is probed in a long clip.

All frames from the key frame on must be decoded to get at one, so probes are drawn towards it: a
quarter of the decoding, still spread evenly over the groups. Encoders start a new group at a cut.
"""
CHEAP = 300
"""Frames whose decoding does not matter: clips so long are probed evenly."""
NEAR = 1.0
"""Seconds in which a head keeps its place and its turn goes on, cut or not."""
CUT = 25.0
"""Mean change of grey levels between two frames that means another shot, whatever their times."""
STEP = 0.2
"""Seconds to the frame that tells which way a head turns."""
LINE = 3
"""Starting points of a person from which frontal frames are sought."""


def coarse(info: VideoInfo, count: int) -> list[int]:
    """Frames spread over the clip, in a long one each drawn towards the key frame before it."""
    reach = min(1.0, max(REACH, CHEAP / info.frames))
    indices = set()
    for part in range(count):
        wanted = (part + 0.5) * info.frames / count
        start = _group_start(info, int(wanted))
        indices.add(int(start + (wanted - start) * reach))
    return sorted(indices)


def check_seen(probes: Sequence[Sequence[Sighting]], wanted: int) -> None:
    """Raises BadSample `unreadable` when most of the probes were not decoded, `no_face`."""
    if 2 * len(probes) < wanted:
        detail = f"only {len(probes)} of {wanted} probed frames could be decoded"
        raise BadSample("unreadable", detail)
    if not any(probes):
        raise BadSample("no_face", f"no face in {len(probes)} frames")


def same_shot(info: VideoInfo, images: Mapping[int, Image], one: int, other: int) -> bool:
    """Whether two probed frames look alike and are near, or have no key frame between them."""
    near = abs(one - other) <= NEAR * max(info.fps, 1.0)
    if not near and _group_start(info, one) != _group_start(info, other):
        return False
    change = cv2.absdiff(_thumbnail(images[one]), _thumbnail(images[other]))
    return float(change.mean()) < CUT


def _thumbnail(image: Image) -> Image:
    small: Image = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)
    return small


def finer(info: VideoInfo, person: Person, probed: set[int]) -> Iterator[int]:
    """Frames not yet probed in which the person may look straight, the most promising first."""
    ranked = sorted(person.sightings, key=lambda s: (s.turn, s.frame))[:LINE]
    for sighting in ranked:
        index = _free(_zero(info, sighting, person.sightings), probed, info)
        if index is not None:
            probed = probed | {index}
            yield index


def _zero(info: VideoInfo, here: Sighting, all_: Sequence[Sighting]) -> int:
    """Where the line through a sighting and its nearest neighbour in time crosses yaw zero."""
    reach = NEAR * max(info.fps, 1.0)
    step = max(1, round(STEP * info.fps))
    near = [s for s in all_ if s.frame != here.frame and abs(s.frame - here.frame) <= reach]
    if not near:
        forward = here.frame + step
        return forward if forward < info.frames else here.frame - step
    yaw = _yaw(here)
    crossing = [s for s in near if _yaw(s) * yaw < 0]
    other = min(crossing or near, key=lambda s: (abs(s.frame - here.frame), s.turn))
    change = (_yaw(other) - yaw) / (other.frame - here.frame)
    ahead = -yaw / change if change else float(step)
    return round(here.frame + max(-reach, min(reach, ahead)))


def _free(index: int, probed: set[int], info: VideoInfo) -> int | None:
    """The index, or the nearest within `STEP` that has not been probed."""
    index = max(0, min(index, info.frames - 1))
    for distance in range(max(1, round(STEP * info.fps)) + 1):
        for near in (index + distance, index - distance):
            if 0 <= near < info.frames and near not in probed:
                return near
    return None


def _yaw(sighting: Sighting) -> float:
    return 0.0 if sighting.face.pose is None else sighting.face.pose.yaw


def _group_start(info: VideoInfo, frame: int) -> int:
    place = bisect.bisect_right(info.keyframes, frame)
    return info.keyframes[place - 1] if place else 0
