"""`opens2v_nexus`: how like the references the boxes are that YOLO-World found by them.

YOLO-World's image-prompt stack is GPL-3.0 and needs an environment of its own; its boxes come in as
a file, and the embeddings, the thresholds and both means are made here.

    {"CASE.sSEED": [[[left, top, right, bottom, confidence, identity], …], …32 frames]}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datapipe.errors import UserError

CONFIDENCE = 0.6
"""A box counts above it."""
TEXT = 0.30
"""Cosine of the crop to its label above which it counts."""


@dataclass(frozen=True, slots=True)
class Box:
    """A box in one frame, found by the reference of one identity of the case."""

    left: float
    top: float
    right: float
    bottom: float
    confidence: float
    identity: int


@dataclass(frozen=True, slots=True)
class Nexus:
    """Both means of a video."""

    official: float
    """Divided by the number of frames with a box; 0 where nothing counts."""
    undivided: float | None
    frames: int
    """With a box."""
    used: int
    """Boxes that count."""


def nexus(
    frames: Sequence[Sequence[Box]],
    text: Callable[[int, Box], float],
    picture: Callable[[int, Box], float],
) -> Nexus:
    """Of a video's boxes; `text` and `picture` are the crop's cosines to label and reference.

    Both are asked only of boxes that are confident enough.
    """
    with_box = sum(bool(boxes) for boxes in frames)
    found = []
    for number, boxes in enumerate(frames):
        for box in boxes:
            if box.confidence > CONFIDENCE and text(number, box) > TEXT:
                cosine = picture(number, box)
                if cosine != 0:
                    found.append(cosine)
    if not found:
        return Nexus(0.0, None, with_box, 0)
    mean = sum(found) / len(found)
    return Nexus(mean / with_box, mean, with_box, len(found))


def read_boxes(path: Path) -> dict[str, list[list[Box]]]:
    """The file of boxes. Raises UserError where it is none."""
    try:
        data: Any = json.loads(path.read_bytes())
        return {
            str(name): [[_box(row) for row in boxes] for boxes in frames]
            for name, frames in data.items()
        }
    except (OSError, ValueError, TypeError, AttributeError) as wrong:
        raise UserError(f"{path} is no file of boxes: {wrong}") from wrong


def _box(row: Any) -> Box:
    *numbers, identity = row
    if len(numbers) != 5 or type(identity) is not int or not 0 <= identity < 2:
        raise ValueError(f"{row!r} is not [left, top, right, bottom, confidence, identity]")
    left, top, right, bottom, confidence = map(float, numbers)
    return Box(left, top, right, bottom, confidence, identity)
