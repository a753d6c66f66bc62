"""Reading off a portrait how its hair is worn: volume, length, curl, colours."""

from __future__ import annotations

import cv2
import numpy as np

from datapipe.record import Image
from lora_engine.mesh.fit import Fit
from lora_engine.mesh.hair import Style
from lora_engine.mesh.landmarks import CHIN, FOREHEAD, IRISES, LIPS_INNER, OVAL
from lora_engine.mesh.masks import Masks
from lora_engine.mesh.raster import Array

PALETTE = 3000  # colours of hair that are kept
FAR = 24.0  # Lab distance from the middle colour beyond which a pixel is not hair
BUN = 0.12  # hair this much higher than it is wide is worn on top of the head
CURLY = (0.62, 0.4)  # coherence of the hair's texture: straight, curly


def hair_style(photo: Image, mask: Masks, fitted: Fit) -> Style:
    """Volume, length and curl of the hair as the portrait shows it."""
    if mask.bald:
        return Style(length=0.0, density=0.0)
    unit = 1 / fitted.camera.scale  # pixels per decimetre
    points = fitted.landmarks
    volume = _stands_off(mask.person, fitted, unit)
    curly = _curliness(photo, crown(mask, fitted), unit)
    if curly <= 0.5:  # straight hair lies flat; what stands off further is a bun or a tree
        volume = min(volume, 0.3)
    below = _hangs(mask.hair, points, unit)
    if below > 0.15:
        length = 2.3 + below
        if curly > 0.5:
            return Style(
                length, 0.9 * volume, 0.09, 0.3, 0.55, (1, -0.3, -0.3), (0.3, -1, -0.1), 0.0
            )
        return Style(length, 0.8 * volume, 0.02, 1.5, 0.9, (1, -0.3, -0.2), (0.2, -1, -0.1), 0.0)
    if curly > 0.5:
        return Style(
            0.06 + 0.9 * volume,
            0.8 * volume,
            0.045 + 0.08 * volume,
            0.1 + 0.14 * volume,
            0.15,
            density=0.55,
            taper=0.25,
        )
    return Style(1.2, 0.9 * volume, 0.01, 1.0, 0.95, taper=0.5)


def _stands_off(person: Array, fitted: Fit, unit: float) -> float:
    """How far the person's outline lies outside the skull, above and beside it, decimetres."""
    skull = fitted.camera.to_pixels(fitted.shape)
    x, eyes = fitted.landmarks[OVAL, 0].mean(), fitted.landmarks[list(IRISES), 1].mean()
    band = person[:, max(0, int(x - 0.3 * unit)) : int(x + 0.3 * unit)].max(axis=1) > 0.5
    above = skull[:, 1].min() - (band.argmax() if band.any() else 0)
    rows = person[max(0, int(eyes - 0.9 * unit)) : max(1, int(eyes - 0.3 * unit))] > 0.5
    width = np.median(rows.sum(axis=1)) if len(rows) else 0.0
    high = (skull[:, 1] < eyes - 0.3 * unit) & (skull[:, 1] > eyes - 0.9 * unit)
    beside = (width - np.ptp(skull[high, 0])) / 2
    if band[0]:  # the picture's edge cuts the hair
        above = beside
    return float(np.clip(min(above, beside + BUN * unit) / unit, 0.05, 0.75))


def _hangs(hair: Array, points: Array, unit: float) -> float:
    """How far below the chin hair hangs beside the face without a break, decimetres."""
    left, right = points[OVAL, 0].min(), points[OVAL, 0].max()
    wide, chin, mouth = right - left, points[CHIN, 1], points[LIPS_INNER[0], 1]
    lengths = []
    for a, b in ((left - 0.45 * wide, left), (right, right + 0.45 * wide)):
        band = hair[max(0, int(mouth)) :, max(0, int(a)) : max(1, int(b))] > 0.5
        thick = band.sum(axis=1) > 0.08 * wide
        lengths.append(len(thick) if thick.all() else int(thick.argmin()))
    return float(max(lengths) - (chin - mouth)) / unit


def crown(mask: Masks, fitted: Fit) -> Array:
    """Pixels that are hair on top of the head and surely nothing else."""
    unit = 1 / fitted.camera.scale
    skull = fitted.camera.to_pixels(fitted.shape)[:, 1].min()
    x, forehead = fitted.landmarks[OVAL, 0].mean(), fitted.landmarks[FOREHEAD, 1]
    near = np.zeros(mask.hair.shape, np.uint8)
    top, left = max(0, int(skull - 0.3 * unit)), max(0, int(x - 0.75 * unit))
    near[top : max(0, int(forehead + 0.25 * unit)), left : max(0, int(x + 0.75 * unit))] = 1
    sure = cv2.erode((mask.hair > 0.9).astype(np.uint8), np.ones((3, 3), np.uint8))
    return np.asarray(near & sure) > 0


def _curliness(photo: Image, sure: Array, unit: float) -> float:
    """0 for strands that run together, 1 for curls, from the structure of the hair's texture."""
    if sure.sum() < 200:
        return 0.0
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(np.float32)
    gx, gy = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    sigma = 0.06 * unit
    xx, yy, xy = (cv2.GaussianBlur(g, (0, 0), sigma) for g in (gx * gx, gy * gy, gx * gy))
    coherence = np.hypot(xx - yy, 2 * xy) / np.maximum(xx + yy, 1e-3)
    weight = (xx + yy)[sure]
    mean = float((coherence[sure] * weight).sum() / weight.sum())
    return float(np.clip((CURLY[0] - mean) / (CURLY[0] - CURLY[1]), 0, 1))


def hair_palette(photo: Image, mask: Masks, fitted: Fit) -> Array:
    """(m, 3) colours of the hair, smoothed a little so that noise is not among them."""
    soft = cv2.GaussianBlur(photo, (0, 0), 1.5)
    found = soft[crown(mask, fitted)]
    if len(found) < 50:
        return mask.hair_colour[None]
    lab = cv2.cvtColor(found[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    colours = found[np.linalg.norm(lab - np.median(lab, axis=0), axis=1) < FAR].astype(float)
    return np.asarray(colours[:: max(1, len(colours) // PALETTE)])
