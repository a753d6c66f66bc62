"""From a portrait to a head in front of a camera, with what all heads share.

`Studio` holds the mesh, the landmarker and the texture's layout, and lifts a portrait to what it
says about its person; `build` makes a head of that; `frame` and `background` set it up as in the
portrait.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from datapipe.faces.base import Face
from datapipe.faces.landmarks import EYELIDS, IRISES, MOUTH_CORNERS, NOSE_TIP, Landmarker
from datapipe.record import Image
from lora_engine.mesh.anatomy import Anatomy, Phenotype
from lora_engine.mesh.fit import Fit, fit, map_landmarks
from lora_engine.mesh.geometry import Array
from lora_engine.mesh.hair import HairStyle, grow, read_hair_palette, read_hair_style
from lora_engine.mesh.head import PATCH, Head, HeadLook, assemble, eye_centre
from lora_engine.mesh.portrait import CHIN, OVAL, Masks, masks
from lora_engine.mesh.render import Camera
from lora_engine.mesh.texture import Atlas, Skin, paint

UNSEEN_CLOTH = np.array([92.0, 98.0, 108.0])
"""Colour of the cloth where the portrait ends at the neck, RGB 0..255."""
COLLAR = 0.4
"""Heights of the face below the chin from which people wear something."""
WORN = 0.2
"""Share of the chest; if less of it is unlike skin, the cloth itself has the skin's colour."""
TEXTURE = 1024
"""Longest side, pixels, at which a portrait is read."""


@dataclass(frozen=True)
class Lifted:
    """Everything one portrait says about its person."""

    photo: Image
    fit: Fit
    masks: Masks
    skin: Skin
    style: HairStyle
    palette: Array
    """(m, 3): colours of the hair, RGB 0..255."""
    iris: Array
    """RGB 0..255."""
    eyes: Array
    """(2, PATCH, PATCH, 4): RGB and trust of the eyeballs."""
    cloth: Array
    """RGB 0..255."""


class Studio:
    """What all heads share, and the lifting of portraits."""

    def __init__(self, mesh: Path, landmarker: Path) -> None:
        """Reads the data files, which takes some 2 s."""
        self.anatomy = Anatomy(mesh)
        self._find = Landmarker(landmarker)
        self.where = map_landmarks(self.anatomy, self._find)
        self.atlas = Atlas(self.anatomy)

    def lift(self, portrait: Image, face: Face, who: Phenotype | None = None) -> Lifted:
        """Read a portrait whose face is given. Raises ValueError when it cannot be fitted."""
        photo, scale = _shrunk(portrait)
        left, top, right, bottom = (side * scale for side in face.box)
        eyes = np.asarray(face.points[:2], float) * scale
        points = self._find(photo, (left, top, right, bottom), eyes, self.where.mirror)
        fitted = fit(self.anatomy, self.where, points, who or Phenotype())
        mask = masks(photo, fitted.landmarks)
        return Lifted(
            photo=photo,
            fit=fitted,
            masks=mask,
            skin=paint(photo, mask, fitted, self.anatomy, self.atlas),
            style=read_hair_style(photo, mask, fitted),
            palette=read_hair_palette(photo, mask, fitted),
            iris=_iris(photo, fitted.landmarks),
            eyes=_eyes(photo, fitted, self.anatomy),
            cloth=_cloth(photo, mask, fitted.landmarks),
        )


def _shrunk(image: Image) -> tuple[Image, float]:
    scale = min(1.0, TEXTURE / max(image.shape[:2]))
    if scale == 1.0:
        return image, scale
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), scale


def _iris(photo: Image, points: Array) -> Array:
    """Read the iris's colour off its lower half: the upper half lies in the lid's shade."""
    angles = np.radians(np.arange(20, 161, 20))
    found = []
    for first in IRISES:
        centre = points[first]
        radius = np.linalg.norm(points[first + 1 : first + 5] - centre, axis=1).mean()
        ring = centre + 0.68 * radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        column, row = (
            np.clip(np.rint(ring[:, k]).astype(int), 0, photo.shape[1 - k] - 1) for k in (0, 1)
        )
        found.append(photo[row, column])
    return np.asarray(np.median(np.concatenate(found), axis=0), float)


def _eyes(photo: Image, fitted: Fit, anatomy: Anatomy) -> Array:
    """Cut out the eyeballs as the portrait shows them between the lids."""
    line = (np.arange(PATCH) + 0.5) / PATCH * 2 - 1
    x, y = np.meshgrid(line, -line)
    z = np.sqrt(np.clip(1 - x * x - y * y, 0, 1))
    sphere = np.stack([x, y, z], axis=2).reshape(-1, 3)
    patches = []
    for eye, lids in zip(anatomy.eyes, EYELIDS, strict=True):
        centre, radius = eye_centre(fitted.aligned[eye])
        places = fitted.camera.to_pixels(centre + radius * sphere)[:, :2]
        grid = places.reshape(PATCH, PATCH, 2).astype(np.float32)
        colour = cv2.remap(photo.astype(np.float32), grid, None, cv2.INTER_LINEAR)
        opening = np.rint(fitted.landmarks[lids] * 16).astype(np.int32)
        mask = np.zeros(photo.shape[:2], np.uint8)
        cv2.fillPoly(mask, [opening], 255, cv2.LINE_AA, 4)
        shown = cv2.remap(mask, grid, None, cv2.INTER_LINEAR).astype(np.float32) / 255
        patches.append(np.dstack([colour, cv2.GaussianBlur(shown, (0, 0), 1.0)]))
    return np.stack(patches)


def _cloth(photo: Image, mask: Masks, points: Array) -> Array:
    """Read the median colour of what is below the neck and not bare skin.

    The person's mask is of no use here: it loses the shirt where the wall behind has its colour.
    """
    tall, wide = np.ptp(points[OVAL, 1]), np.ptp(points[OVAL, 0])
    x, y = points[OVAL, 0].mean(), points[CHIN, 1] + COLLAR * tall
    part = slice(int(y), None), slice(max(0, int(x - 0.6 * wide)), max(0, int(x + 0.6 * wide)))
    chest, worn = photo[part].reshape(-1, 3), mask.skin[part].ravel() <= 0.1
    if len(chest) < 100:
        return UNSEEN_CLOTH
    if worn.mean() < WORN:
        worn[:] = True
    return np.asarray(np.clip(np.median(chest[worn], axis=0), 18, 235), float)


ROOTS = 0.82
"""How much of the scalp's skin is hidden by the roots of the hair."""
ROOT_SHADE = 0.55
"""Brightness of the hair near its roots."""


@dataclass(frozen=True)
class HeadParts:
    """Everything of which a head is made, whether read off a portrait or invented."""

    shape: Array
    """(coarse, 3) vertices."""
    albedo: Array
    """As `Skin.albedo`, and so `scalp` and `seen`."""
    scalp: Array
    seen: Array
    style: HairStyle
    palette: Array
    """(m, 3): colours of the hair, RGB 0..255."""
    look: HeadLook


def person(lifted: Lifted, base: Studio) -> Head:
    """Make a head of the portrait's person."""
    skin, look = lifted.skin, HeadLook(lifted.iris, lifted.cloth, lifted.eyes)
    return build(
        HeadParts(
            lifted.fit.shape, skin.albedo, skin.scalp, skin.seen, lifted.style, lifted.palette, look
        ),
        base,
        seed=0,
    )


def build(who: HeadParts, base: Studio, seed: int) -> Head:
    """Make a head of its parts; `seed` places its single hairs."""
    anatomy = base.anatomy
    fine = anatomy.refine(who.shape)
    scalp = base.atlas.on_vertices(who.scalp)
    hair = grow(fine, anatomy, scalp, who.style, who.palette, seed)
    roots = ROOT_SHADE * np.median(who.palette, axis=0)
    cover = (ROOTS * np.sqrt(who.style.density) * who.scalp)[..., None]
    texture = who.albedo * (1 - cover) + cover * roots
    marks = base.where.on(who.shape)
    eyes = [eye_centre(who.shape[eye]) for eye in anatomy.eyes]
    pupils = [centre + np.array([0, 0, radius]) for centre, radius in eyes]
    features = np.stack([*pupils, marks[NOSE_TIP], *marks[list(MOUTH_CORNERS)]])
    return assemble(
        who.shape, texture, who.seen, hair, who.look, anatomy, base.atlas, features, marks
    )


SCALE = (0.17, 0.31)
"""Share of a view's side that a decimetre may take."""
PLACE = (0.44, 0.56)
"""Share of the width at which the middle of the face may stand."""
TOP = 0.035
"""Least share of the side that is left free above the hair."""
BEHIND = 256
"""Side of the background, pixels: it is out of focus anyway."""


def cut_square(picture: Image, face: Face) -> tuple[Image, Face]:
    """Cut the largest square, with the face in its middle as far as the picture allows."""
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
    """Frame the head as the portrait does, moved so that its hair fits into every view."""
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
    """Continue what is at the person's sides behind them, out of focus: (BEHIND, BEHIND, 3)."""
    person = cv2.resize(lifted.masks.person, (BEHIND, BEHIND), interpolation=cv2.INTER_AREA)
    photo = cv2.resize(lifted.photo, (BEHIND, BEHIND), interpolation=cv2.INTER_AREA)
    shown = 1 - cv2.dilate(person, np.ones((27, 27), np.uint8))
    chin = lifted.fit.landmarks[CHIN, 1] / lifted.photo.shape[0] * BEHIND
    shown[int(chin) :] = 0  # below it, shoulders and sleeves are easily taken for background
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
