"""Which sighting of a person makes the best reference: one bound and one score.

The portrait's frame: one square around a face, with hair and shoulders.

References are cut by this rule, and views are rendered to it, so that both show a head alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np

from datapipe.errors import BadSample, check_range
from datapipe.faces.base import Face, Features
from datapipe.faces.crops import FACE_SIZE, eye_visibility, sharpness
from datapipe.faces.landmarks import CALM, expressions
from datapipe.prepare.people import Person, Sighting
from datapipe.record import Image

FACE_SHARE = 0.4
"""The face box's mean side over the square's side."""
FACE_CENTRE = 0.45
"""The face box's centre, from the square's top, as a share of its side; level, it is the middle."""
LEAST_MARGIN = 1.5
"""The square's least side, in mean sides of the face box, when it gives way to neighbours."""

Box = tuple[float, float, float, float]


def portrait_square(
    face: Box, width: int, height: int, neighbours: Iterable[Box] = ()
) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the square to cut around a face box, in pixels.

    Where the frame does not hold the square, it is shifted inside; where the frame is too small
    for it, it shrinks to the frame's short side: no border is invented. Before that it shrinks,
    down to `LEAST_MARGIN`, until it leaves out the middle of every neighbour's face.
    """
    left, top, right, bottom = face
    size = ((right - left) + (bottom - top)) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    side = size / FACE_SHARE
    for other in neighbours:
        side = min(side, max(_side_without(other, x, y), size * LEAST_MARGIN))
    pixels = max(1, min(round(side), width, height))
    start_x = _start_inside(x - pixels / 2, pixels, width)
    start_y = _start_inside(y - pixels * FACE_CENTRE, pixels, height)
    return start_x, start_y, start_x + pixels, start_y + pixels


def cut(image: Image, square: tuple[int, int, int, int], side: int) -> Image:
    """The square's content, at most `side` pixels wide: scaled down where larger, never up."""
    left, top, right, bottom = square
    piece = image[top:bottom, left:right]
    if right - left <= side:
        return piece.copy()
    scaled: Image = cv2.resize(piece, (side, side), interpolation=cv2.INTER_AREA)
    return scaled


def _side_without(other: Box, x: float, y: float) -> float:
    """Side of the largest square around a face's middle without the middle of another face."""
    across, down = (other[0] + other[2]) / 2 - x, (other[1] + other[3]) / 2 - y
    above = -down / FACE_CENTRE if down < 0 else down / (1 - FACE_CENTRE)
    return max(2 * abs(across), above)


def _start_inside(start: float, length: int, limit: int) -> int:
    return max(0, min(round(start), limit - length))


WEIGHTS = {"yaw": 0.25, "pitch": 0.1, "sharpness": 0.2, "size": 0.05, "calm": 0.35, "score": 0.05}
"""Of the parts of `Measured.merit`; they sum to 1. An open mouth (0.35) costs more than the whole
way from frontal to the bound (0.25)."""
SHARP = 0.28
"""A face in focus; see `datapipe.faces.crops`."""
AGAPE = 0.5
"""A mouth that is open; see `datapipe.faces.base.Face`."""
SCREENED = 8
"""Faces of a person whose expression is read."""
MIN_INSIDE = 0.9
"""Share of the face box that must be inside the frame."""
LARGE = 256.0
"""Pixels; a larger face makes no better portrait."""


@dataclass(frozen=True, slots=True)
class FrontalBound:
    """What a face must be to serve as a reference."""

    max_yaw: float = 15.0
    """Degrees to either side."""
    max_pitch: float = 20.0
    """Degrees up or down."""
    min_face: float = 112.0
    """Mean side of the face box, in pixels of the full-size frame; at least 112, since of a smaller
    face the sharpness cannot be told."""
    min_sharpness: float = 0.18
    """`datapipe.faces.crops`: about 0.28 in focus, 0.13 blurred by 2 % of the face's side. This
    is what admits a reference: the default rules don't ask for its sharpness again."""

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of its range."""
        check_range(self, "max_yaw", "max_pitch", above=0, most=90, option="")
        check_range(self, "min_face", least=FACE_SIZE, option="")
        check_range(self, "min_sharpness", least=0, under=SHARP, option="")

    def frontal(self, face: Face, image: Image) -> bool:
        """Whether the face looks at the camera, and is in the picture."""
        pose = face.pose
        if pose is None or abs(pose.yaw) > self.max_yaw or abs(pose.pitch) > self.max_pitch:
            return False
        height, width = image.shape[:2]
        return inside(face, width, height) >= MIN_INSIDE


@dataclass(frozen=True, slots=True)
class Measured:
    """A face as it counts for the choice of a reference."""

    face: Face
    size: float
    """Mean side in pixels of the full-size frame."""
    sharpness: float | None
    """None where the picture at hand is too small to tell."""
    eyes: float
    """0..1; see `eye_visibility`."""
    mouth: float = 0.0
    """`Face.mouth` over that of the person's calm faces."""
    expression: float | None = None
    """0 neutral … 1; see `datapipe.faces.landmarks`. None where it was not measured."""

    def merit(self, bound: FrontalBound) -> float:
        """0..1: the weighted sum of how straight, sharp, large, calm and certain it is.

        Yaw and pitch count linearly down to 0 at the bound, sharpness up to `SHARP`, size up to
        `LARGE`. An unknown sharpness counts half; where the expression is unknown, open eyes
        and a shut mouth count.
        """
        pose = self.face.pose
        if pose is None:
            return 0.0
        sharp = 0.5 if self.sharpness is None else min(1.0, self.sharpness / SHARP)
        shut = 1 - min(1.0, max(0.0, self.mouth / AGAPE))
        calm = self.eyes * shut if self.expression is None else 1 - self.expression
        parts = {
            "yaw": max(0.0, 1 - abs(pose.yaw) / bound.max_yaw),
            "pitch": max(0.0, 1 - abs(pose.pitch) / bound.max_pitch),
            "sharpness": sharp,
            "size": min(1.0, self.size / LARGE),
            "calm": calm,
            "score": self.face.score,
        }
        return sum(WEIGHTS[name] * part for name, part in parts.items())


def best_first(
    measured: Mapping[Sighting, Measured],
    features: Callable[[Sighting], Features | None],
    bound: FrontalBound,
) -> list[tuple[Sighting, Measured]]:
    """The frontal sightings of one person, by falling merit.

    Features cost as much as finding a face, so they are read of the best by all else: `SCREENED`,
    chosen with the mouth as the pose estimator sees it. The others follow.
    """

    def ordered(some: Iterable[tuple[Sighting, Measured]]) -> list[tuple[Sighting, Measured]]:
        return sorted(some, key=lambda pair: (-pair[1].merit(bound), pair[0].frame))

    mouths = [s.face.mouth for s in measured if s.face.mouth is not None]
    shut = float(np.percentile(mouths, CALM, method="lower")) if mouths else 0.0
    rough = ordered(
        (s, m if s.face.mouth is None else replace(m, mouth=s.face.mouth - shut))
        for s, m in measured.items()
    )
    screened = rough[:SCREENED]
    read = [features(sighting) for sighting, _ in screened]
    found = iter(expressions([one for one in read if one is not None]))
    calm = [
        (s, m if one is None else replace(m, expression=next(found)))
        for (s, m), one in zip(screened, read, strict=True)
    ]
    return ordered(calm) + rough[SCREENED:]


def measure(image: Image, face: Face, scale: float) -> Measured:
    """Measure a face of a picture that is `scale` times as large as the full-size frame."""
    return Measured(face, face.size / scale, sharpness(image, face), eye_visibility(image, face))


def no_frontal(person: Person, bound: FrontalBound) -> BadSample:
    """Why none of a person's faces is a reference, where none looks at the camera."""
    nearest = min(person.sightings, key=lambda s: s.turn)
    pose = nearest.face.pose
    looks = "of unknown pose" if pose is None else f"yaw {pose.yaw:.0f}°, pitch {pose.pitch:.0f}°"
    detail = (
        f"the straightest of {len(person.sightings)} faces has {looks}; allowed are "
        f"{bound.max_yaw:g}° and {bound.max_pitch:g}°, with the whole face in the picture"
    )
    return BadSample("no_frontal", detail)


def inside(face: Face, width: int, height: int) -> float:
    """The share of a face's box that is in the picture."""
    left, top, right, bottom = face.box
    shown = max(0.0, min(right, width) - max(left, 0.0)) * (min(bottom, height) - max(top, 0.0))
    return shown / max(1e-9, (right - left) * (bottom - top))
