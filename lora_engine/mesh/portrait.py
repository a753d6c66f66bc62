"""Reading a portrait: where it shows the person, skin and hair.

The masks come from colours, with the landmarks (`datapipe.faces.landmarks`) saying where to look.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from datapipe.faces.landmarks import IRISES
from datapipe.record import Image
from lora_engine.mesh.geometry import Array

OVAL = np.array(
    [
        *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
        *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
    ]
)
"""The outline of the face."""
FOREHEAD, CHIN, CHEEKS = 10, 152, (50, 280)
WORK = 288
"""Longest side, pixels, of the picture in which masks are found."""
SKIN_RANGE = 30.0
"""Lab distance from the cheeks up to which a pixel may be skin."""
HAIR_RANGE = 45.0
"""Lab distance from the hair's colour up to which a pixel may be hair."""
COLOUR, HUE, STRANDS = 14.0, 4.0, 3.7
"""What lies above the forehead is bare skin if it keeps within all three (see `_bald`): a Lab
distance from the cheeks, a Lab distance from the line on which light and shade move the skin's
colour, and a fine contrast as a multiple of the face's."""


@dataclass(frozen=True)
class Masks:
    """Soft masks (height, width) of a portrait, 0..1, and the colours they come from (RGB)."""

    person: Array
    skin: Array
    hair: Array
    oval: Array
    skin_colour: Array
    hair_colour: Array
    bald: bool


def masks(photo: Image, points: Array) -> Masks:
    """Find person, skin and hair; `points` (478, 2) are the portrait's landmarks in pixels."""
    scale = WORK / max(photo.shape[:2])
    small = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    where = points * scale
    oval = _oval(small.shape[:2], where)
    person = _person(small, where, oval)
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    cheeks, above = _discs(small.shape[:2], where), _above_forehead(small.shape[:2], where)
    above &= person > 0.5
    skin = np.median(lab[cheeks], axis=0)
    hair = np.median(lab[above], axis=0) if above.sum() > 30 else np.array([10.0, 0, 0])
    to_skin, to_hair = _distance(lab, skin), _distance(lab, hair)
    is_skin = person * (to_skin < to_hair) * (to_skin < SKIN_RANGE)
    bald = bool(np.linalg.norm(skin - hair) < COLOUR) and _bald(lab, where, cheeks, above)
    is_hair = person * (to_hair <= to_skin) * (to_hair < HAIR_RANGE) * (1 - oval) * (not bald)
    return Masks(
        person=_soften(person, photo.shape),
        skin=_soften(is_skin, photo.shape),
        hair=_soften(is_hair, photo.shape),
        oval=_resize(oval, photo.shape),
        skin_colour=np.median(small[cheeks], axis=0).astype(float),
        hair_colour=_rgb(hair),
        bald=bald,
    )


def _bald(lab: Array, points: Array, cheeks: Array, above: Array) -> bool:
    """Whether the area above the forehead has the cheeks' hue and is as smooth as the face.

    Blond hair may be as bright as skin, but it is yellower: light and shade make a colour stronger
    or weaker and do not turn it. Hair of just the skin's hue still shows its strands.
    """
    wide, tall = float(np.ptp(points[OVAL, 0])), float(np.ptp(points[OVAL, 1]))
    near = 2 * int(0.04 * wide) + 1  # the outline of the head must not count as texture
    inside = cv2.erode(above.astype(np.uint8), np.ones((near, near), np.uint8)) > 0
    if inside.sum() < 30:
        return True
    skin, found = np.median(lab[cheeks], axis=0), np.median(lab[inside], axis=0)
    across = np.array([-skin[2], skin[1]]) / max(1.0, float(np.hypot(*skin[1:])))
    if abs(across @ found[1:]) > HUE:
        return False
    bright = lab[..., 0]
    fine = abs(bright - cv2.GaussianBlur(bright, (0, 0), 0.015 * wide))
    x, y = points[FOREHEAD]
    forehead = _box(lab.shape, x, 0.2 * wide, y + 0.06 * tall, y + 0.2 * tall)
    here, *bare = (
        np.median(fine[part]) / max(1.0, float(np.median(bright[part])))
        for part in (inside, forehead, cheeks)
    )
    return bool(here < STRANDS * min(bare))


def _rgb(lab: Array) -> Array:
    pixel = cv2.cvtColor(lab[None, None].astype(np.float32), cv2.COLOR_LAB2RGB)
    return np.asarray(pixel[0, 0] * 255, float)


def _oval(shape: tuple[int, ...], points: Array) -> Array:
    """Draw the face oval with a soft edge: the whole jaw, but not the hairline."""
    outline = points[OVAL]
    centre = outline.mean(axis=0)
    wide = float(np.ptp(outline[:, 0]))
    jaw = np.clip((outline[:, 1:] - points[list(IRISES), 1].mean()) / (0.25 * wide), 0, 1)
    shrunk = np.array([[0.86, 0.93]]) * (1 - jaw) + np.array([[0.97, 0.98]]) * jaw
    mask = np.zeros(shape, np.float32)
    cv2.fillPoly(mask, [np.rint(centre + (outline - centre) * shrunk).astype(np.int32)], 1)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), wide * 0.025))


def _person(image: Image, points: Array, oval: Array) -> Array:
    """Run GrabCut, started from the face oval and a generous ellipse around it."""
    outline = points[OVAL]
    x, y = outline.mean(axis=0)
    wide, tall = float(np.ptp(outline[:, 0])), float(np.ptp(outline[:, 1]))
    state = np.full(image.shape[:2], cv2.GC_BGD, np.uint8)
    cv2.ellipse(state, ((x, y - 0.1 * tall), (3.4 * wide, 2.6 * tall), 0), cv2.GC_PR_BGD, -1)
    cv2.ellipse(state, ((x, y - 0.12 * tall), (1.6 * wide, 1.7 * tall), 0), cv2.GC_PR_FGD, -1)
    state[(state == cv2.GC_PR_BGD) & _like_hair(image, points)] = cv2.GC_PR_FGD
    state[int(y + 0.6 * tall) :, max(0, int(x - wide)) : int(x + wide)] = cv2.GC_PR_FGD
    state[int(y + 0.9 * tall) :, : max(0, int(x - wide))] = cv2.GC_PR_BGD
    state[int(y + 0.9 * tall) :, int(x + wide) :] = cv2.GC_PR_BGD
    state[oval > 0.8] = cv2.GC_FGD
    cv2.setRNGSeed(0)
    back, front = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(image, state, (0, 0, 1, 1), back, front, 3, cv2.GC_INIT_WITH_MASK)
    inside = np.isin(state, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    _, labels = cv2.connectedComponents(inside)
    return np.asarray(labels == labels[int(y), int(x)], np.float32)


def _like_hair(image: Image, points: Array) -> Array:
    """Mark pixels nearer to the colour above the forehead than to those at the upper sides."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    tall, wide = image.shape[:2]
    edge = max(2, wide // 60)
    sides = np.concatenate([lab[: tall // 2, :edge], lab[: tall // 2, -edge:]], axis=1)
    behind = np.median(sides.reshape(-1, 3), axis=0)
    hair = np.median(lab[_above_forehead(image.shape[:2], points)], axis=0)
    return _distance(lab, hair) < 0.6 * _distance(lab, behind)


def _discs(shape: tuple[int, ...], points: Array) -> Array:
    """Mark small discs on the cheeks, which are surely skin."""
    mask = np.zeros(shape, np.uint8)
    radius = max(2, int(np.ptp(points[OVAL, 0]) * 0.08))
    for cheek in CHEEKS:
        cv2.circle(mask, (int(points[cheek][0]), int(points[cheek][1])), radius, 1, -1)
    return mask > 0


def _above_forehead(shape: tuple[int, ...], points: Array) -> Array:
    """Mark a box above the highest landmark, which is most likely hair."""
    x, y = points[FOREHEAD]
    wide, tall = float(np.ptp(points[OVAL, 0])), float(np.ptp(points[OVAL, 1]))
    return _box(shape, x, 0.25 * wide, y - 0.35 * tall, y - 0.12 * tall)


def _box(shape: tuple[int, ...], x: float, half: float, top: float, bottom: float) -> Array:
    """Mark the rows from `top` to `bottom`, `half` to either side of `x`."""
    mask = np.zeros(shape[:2], bool)
    rows = slice(int(max(0, top)), int(max(1, bottom)))
    mask[rows, max(0, int(x - half)) : int(x + half)] = True
    return mask


def _distance(lab: Array, colour: Array) -> Array:
    return np.asarray(np.linalg.norm((lab - colour) * [0.6, 1, 1], axis=2))


def _soften(mask: Array, shape: tuple[int, ...]) -> Array:
    clean = cv2.medianBlur((mask * 255).astype(np.uint8), 5).astype(np.float32) / 255
    return _resize(cv2.GaussianBlur(clean, (0, 0), 1.2), shape)


def _resize(mask: Array, shape: tuple[int, ...]) -> Array:
    size = (shape[1], shape[0])
    return np.asarray(cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR))
