"""Ordinary photographs of a person, cut by the rule that cut the references of the training."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from datapipe.errors import UserError
from datapipe.faces import face_analyzer
from datapipe.faces.base import Face, FaceAnalyzer
from datapipe.pictures import decode_jpeg, encode_jpeg
from datapipe.prepare.frontal import FACE_SHARE, FrontalBound, cut, portrait_square
from datapipe.prepare.people import distinct
from datapipe.record import Image

SIDE = 1024
"""Pixels, at most, of the portrait."""
SIDES = (1024, 320)
"""Long sides of the copies of a photo in which faces are looked for, the next where the one before
shows none: the detector misses faces over some 500 pixels."""
BYSTANDER = 1 / 3
"""A face that is smaller than this share of the largest belongs to nobody who is shown."""
AS_CUT = 0.1
"""Relative difference up to which a square picture counts as cut by the rule already."""


def is_square(picture: Image) -> bool:
    """Whether a picture is as wide as it is high."""
    height, width = picture.shape[:2]
    return bool(height == width)


def portrait(data: bytes, source: str | Path, yaw: int = 0) -> bytes:
    """Cut the square around the one face of a photo, in which the face is 40 % wide.

    A square picture whose face is that large is returned as it is. Raises UserError, naming
    `source`, where it is no picture, shows no face or several people, or where `yaw` is 0 and the
    face does not look at the camera as references do.
    """
    picture = read_picture(data, source)
    faces = _find(picture)
    if not faces:
        raise UserError(
            f"there is no face in {source}: give a photo in which one face is seen well, or cut "
            "it to the square around the head yourself and put it into a folder as reference.jpg"
        )
    largest = faces[0]
    people = [face for face in faces if face.size >= BYSTANDER * largest.size]
    if len(people) > 1:
        raise UserError(
            f"{source} shows {len(people)} people: give a photo of one, cut out of it for example"
        )
    if yaw == 0:
        _check_frontal(largest, source)
    if is_square(picture) and abs(largest.size / len(picture) / FACE_SHARE - 1) <= AS_CUT:
        return data
    height, width = picture.shape[:2]
    square = portrait_square(largest.box, width, height, [face.box for face in faces[1:]])
    return encode_jpeg(cut(picture, square, SIDE))


def read_picture(data: bytes, source: str | Path) -> Image:
    """Decode a picture, upright. Raises UserError, naming `source`, where it is none."""
    try:
        return decode_jpeg(data)
    except ValueError as wrong:
        raise UserError(
            f"{source} is not a picture that can be read: give a JPEG, PNG or WebP"
        ) from wrong


def _check_frontal(face: Face, source: str | Path) -> None:
    """Raises UserError where the face is turned further than references are."""
    bound, pose = FrontalBound(), face.pose
    if pose is None:
        raise UserError(f"{source}: the pose of its face cannot be told; give a frontal photo")
    if abs(pose.yaw) > bound.max_yaw:
        side = "right" if pose.yaw > 0 else "left"
        nearest = 30 * max(-3, min(3, round(pose.yaw / 30)))
        raise UserError(
            f"{source}: the face looks {abs(pose.yaw):.0f}° to image {side}, a frontal photo at "
            f"most {bound.max_yaw:g}°. Give a frontal one, or a folder that holds this one as "
            f"yaw{nearest:+03d}.jpg"
        )
    if abs(pose.pitch) > bound.max_pitch:
        way = "up" if pose.pitch > 0 else "down"
        raise UserError(
            f"{source}: the face looks {abs(pose.pitch):.0f}° {way}, a frontal photo at most "
            f"{bound.max_pitch:g}°; give another one"
        )


def _find(picture: Image) -> list[Face]:
    """Find the faces of a photo, largest first, in its own pixels."""
    for side in SIDES:
        scale = min(1.0, side / max(picture.shape[:2]))
        copy = picture
        if scale < 1:
            size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
            copy = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
        if found := distinct(_faces().find([copy])[0]):
            return [_enlarged(face, 1 / scale) for face in found]
    return []


def _enlarged(face: Face, factor: float) -> Face:
    """Return a face in a picture that is `factor` times as large."""
    left, top, right, bottom = (edge * factor for edge in face.box)
    return replace(face, box=(left, top, right, bottom), points=face.points * np.float32(factor))


@cache
def _faces() -> FaceAnalyzer:
    """Load the face models on the CPU, once a process. Raises UserError where a file is missing."""
    faces = face_analyzer("light")
    faces.setup()
    return faces
