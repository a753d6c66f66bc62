"""What of a clip is trained on: a span in which its people are seen, and a crop that holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from datapipe.video.decoder import VideoInfo
from harmoview.encode.settings import Bucket, choose_bucket

HEAD = (0.25, 0.5, 0.25, 0.2)
"""What of a head lies beyond the face's box, in sides of the face: left, top, right, bottom. It is
never cut, but by the picture's own edge."""
SHOULDERS = (0.8, 0.6, 0.8, 1.2)
"""Beyond the face's box what the crop is centred on."""
SLACK = 1e-6
"""Seconds by which sums of times may be off."""
ROUNDED = 1e-3
"""Seconds by which stored times may be off."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the upright picture."""
Crop = tuple[int, int, int, int]


@dataclass(frozen=True)
class TrainWindow:
    """A span within one shot in which some of a sample's identities are seen, and no other."""

    start: float
    """Seconds from the first frame that the video shows."""
    end: float
    """Exclusive."""
    identities: tuple[int, ...]
    """Their places among the sample's."""
    faces: Box
    """Around their faces over the whole span."""
    size: float
    """Of the largest of them, as a median over the span, pixels: margins go by it."""

    def frames(self, info: VideoInfo) -> tuple[int, int]:
        """The first and the last frame that is shown within."""
        first = info.at(self.start + ROUNDED)
        return first, max(first, info.at(self.end - ROUNDED))

    def around(self, margin: tuple[float, float, float, float], info: VideoInfo) -> Box:
        """The faces with a margin in sides of a face, as far as the picture reaches."""
        left, top, right, bottom = self.faces
        beside = [share * self.size for share in margin]
        return (
            max(0.0, left - beside[0]),
            max(0.0, top - beside[1]),
            min(float(info.width), right + beside[2]),
            min(float(info.height), bottom + beside[3]),
        )


def train_windows(identities: Sequence[Mapping[str, Any]]) -> list[TrainWindow]:
    """Spans to train on, the best first, out of the windows in a packed sample's JSON.

    Where two identities are seen at once, both are named; where one is alone, only that one. So
    whoever has a window there is named; one whom the rules refused for being small or brief may be
    in the picture all the same. More people, then longer spans, then larger faces are better.
    Raises KeyError and TypeError where the JSON is not pack's.
    """
    own = [[_window(place, one) for one in entry["windows"]]
           for place, entry in enumerate(identities)]  # fmt: skip
    both = [
        joined
        for (_, some), (_, others) in combinations(enumerate(own), 2)
        for one, shot in some
        for other, other_shot in others
        if shot == other_shot and (joined := _joined(one, other)) is not None
    ]
    alone = [rest for some in own for window, _ in some for rest in _without(window, both)]
    return sorted([*both, *alone], key=lambda w: (
        -len(w.identities), w.start - w.end, -w.size, w.start, w.identities))  # fmt: skip


def _window(place: int, row: Mapping[str, Any]) -> tuple[TrainWindow, int]:
    faces = float(row["left"]), float(row["top"]), float(row["right"]), float(row["bottom"])
    window = TrainWindow(
        float(row["start"]), float(row["end"]), (place,), faces, float(row["face_size"])
    )
    return window, int(row["shot"])


def _joined(one: TrainWindow, other: TrainWindow) -> TrainWindow | None:
    start, end = max(one.start, other.start), min(one.end, other.end)
    if start >= end:
        return None
    a, b = one.faces, other.faces
    faces = min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])
    people = (*one.identities, *other.identities)
    return TrainWindow(start, end, people, faces, max(one.size, other.size))


def _without(window: TrainWindow, taken: Sequence[TrainWindow]) -> list[TrainWindow]:
    """What is left of a window outside the spans that it shares."""
    (place,) = window.identities
    left = [(window.start, window.end)]
    for span in taken:
        if place in span.identities:
            left = [
                part
                for start, end in left
                for part in ((start, min(end, span.start)), (max(start, span.end), end))
                if part[0] < part[1]
            ]
    return [
        TrainWindow(start, end, window.identities, window.faces, window.size) for start, end in left
    ]


def crop_for(window: TrainWindow, bucket: Bucket, info: VideoInfo) -> Crop | None:
    """The largest crop of the bucket's shape, its middle as near to the people as may be.

    None where it would cut a head that the picture shows whole.
    """
    shape = bucket.width / bucket.height
    width = min(info.width, round(info.height * shape))
    height = min(info.height, round(info.width / shape))
    wanted, heads = window.around(SHOULDERS, info), window.around(HEAD, info)
    left = _placed(wanted[0], wanted[2], heads[0], heads[2], width, info.width)
    top = _placed(wanted[1], wanted[3], heads[1], heads[3], height, info.height)
    if left is None or top is None:
        return None
    return left, top, left + width, top + height


def _placed(
    low: float, high: float, least: float, most: float, length: int, limit: int
) -> int | None:
    """Where a crop begins along one side: centred on low..high, and holding least..most."""
    if most - least > length + 1:
        return None
    start = (low + high - length) / 2
    start = min(max(start, most - length), least)
    return round(min(max(start, 0.0), limit - length))


def best_bucket(
    buckets: Sequence[Bucket], window: TrainWindow, info: VideoInfo, fps: float
) -> tuple[Bucket, Crop] | None:
    """The bucket of a window among those whose crop holds its people, and the crop.

    None where the window is too short for every such bucket.
    """
    first, last = window.frames(info)
    seconds = float(info.times[last] - info.times[first]) + SLACK
    crops = {bucket: crop_for(window, bucket, info) for bucket in buckets}
    fitting = [bucket for bucket in buckets if crops[bucket] is not None]
    bucket = choose_bucket(fitting, info.height, info.width, seconds, fps)
    crop = None if bucket is None else crops[bucket]
    return None if bucket is None or crop is None else (bucket, crop)
