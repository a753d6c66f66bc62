"""Where the head stands in a view, and what is behind it: both as in the portrait."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from datapipe.faces.base import Face
from datapipe.record import Image
from lora_engine.mesh.head import Head
from lora_engine.mesh.landmarks import CHIN
from lora_engine.mesh.portrait import Lifted
from lora_engine.mesh.raster import Array
from lora_engine.mesh.render import Camera

SCALE = (0.17, 0.31)  # share of the view's side that a decimetre may take
PLACE = (0.44, 0.56)  # where the middle of the face may stand, from left to right
TOP = 0.035  # least share of the side that is left free above the hair
BEHIND = 256  # side of the background picture: it is out of focus anyway


def cut_square(picture: Image, face: Face) -> tuple[Image, Face]:
    """The largest square with the face in its middle, as far as the picture's sides allow."""
    height, width = picture.shape[:2]
    side = min(height, width)
    x, y = (face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2
    left = int(np.clip(x - side / 2, 0, width - side))
    top = int(np.clip(y - side / 2, 0, height - side))
    x0, y0, x1, y1 = face.box
    moved = replace(
        face,
        box=(x0 - left, y0 - top, x1 - left, y1 - top),
        points=face.points - np.array([left, top], np.float32),
    )
    return picture[top : top + side, left : left + side], moved


def frame(lifted: Lifted, head: Head) -> Camera:
    """The portrait's framing, moved so that the head and its hair fit into every view."""
    side = lifted.photo.shape[0]
    fitted = lifted.fit.camera
    scale = float(np.clip(1 / (fitted.scale * side), *SCALE))
    x = float(np.clip(fitted.photo_origin[0] / side, *PLACE))
    y = float(-fitted.photo_origin[1] / side)
    camera = Camera(fitted.mesh_origin, (x, y), scale)
    tops = [head.vertices[:, 1].max()]
    if len(head.hair.points):
        tops.append(float(np.percentile(head.hair.points[..., 1], 99.7)))
    high = np.array([[0.0, max(tops), head.pivot[2]]])
    free = camera.project(high, 1000, 1000)[0, 1] / 1000 - TOP
    if free >= 0:
        return camera
    return replace(camera, place=(x, y - free))


def background(lifted: Lifted) -> Array:
    """What is behind the person, out of focus; led on behind them from the sides. (s, s, 3)."""
    person = cv2.resize(lifted.masks.person, (BEHIND, BEHIND), interpolation=cv2.INTER_AREA)
    photo = cv2.resize(lifted.photo, (BEHIND, BEHIND), interpolation=cv2.INTER_AREA)
    shown = 1 - cv2.dilate(person, np.ones((27, 27), np.uint8))
    chin = lifted.fit.landmarks[CHIN, 1] / lifted.photo.shape[0] * BEHIND
    shown[int(chin) :] = 0  # shoulders and sleeves are easily taken for background
    if shown.mean() < 0.02:
        return np.full((BEHIND, BEHIND, 3), 118, np.float32)
    levels = [(photo.astype(np.float32) * shown[..., None], shown.astype(np.float32))]
    while len(levels[-1][1]) > 4:
        colour, share = levels[-1]
        levels.append((cv2.pyrDown(colour), cv2.pyrDown(share)))
    colour, share = levels[-1]
    fill = np.broadcast_to((colour.sum((0, 1)) / share.sum()), colour.shape).astype(np.float32)
    for colour, share in reversed(levels):
        fill = cv2.resize(fill, share.shape[::-1], interpolation=cv2.INTER_CUBIC)
        sure = np.clip(share * 4, 0, 1)[..., None]
        fill = sure * colour / np.maximum(share, 1e-3)[..., None] + (1 - sure) * fill
    return np.asarray(np.clip(cv2.GaussianBlur(fill, (0, 0), BEHIND / 64), 0, 255))
