"""HDR pictures as SDR: the light that PQ or HLG mean, shown on a display of BT.709.

SDR white is 203 nit, as BT.2408 has it, so that SDR material inside HDR comes back as it was; what
is brighter is white. Lookup tables of the published curves do it, since FFmpeg's filter (zscale) is
not in PyAV's wheel.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np
import numpy.typing as npt

from datapipe.record import Image, Transfer

TRANSFERS: dict[int, Transfer] = {16: "pq", 18: "hlg"}
"""By FFmpeg's number (ITU-T H.273)."""
WHITE = 203.0
"""Nit of SDR white."""
PEAK = 1000.0
"""Nit of the display that HLG is made for; its system gamma is then 1.2."""
GAMMA = 2.4
"""Of the SDR display (BT.1886)."""
LEVELS = 1 << 16

_TO_709 = {
    9: np.array(
        [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
        np.float32,
    ),
    12: np.array(
        [[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]], np.float32
    ),
}
"""From the primaries of BT.2020 and of Display P3, by FFmpeg's number, to those of BT.709."""
LUMA = np.array([[0.2627, 0.6780, 0.0593]], np.float32)
"""Of BT.2020."""


def to_sdr(picture: npt.NDArray[np.uint16], transfer: Transfer, primaries: int) -> Image:
    """An RGB picture (height, width, 3) of 16 bits a channel in PQ or HLG, in SDR."""
    light = _light(transfer)[picture]  # of white; of HLG: of the scene
    if transfer == "hlg":
        luma = cv2.transform(light, LUMA)
        gain = cv2.pow(np.maximum(luma, 1e-6), 0.2) * np.float32(PEAK / WHITE)
        light *= gain[..., None]
    if primaries != 1:
        light = cv2.transform(light, _TO_709.get(primaries, _TO_709[9]))
    levels = np.clip(light, 0, 1) * np.float32(LEVELS - 1)
    return _display()[levels.astype(np.uint16)]


@functools.cache
def _light(transfer: Transfer) -> npt.NDArray[np.float32]:
    signal = np.arange(LEVELS) / (LEVELS - 1)
    if transfer == "pq":
        power = signal ** (1 / 78.84375)
        nit = 10000 * (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (
            1 / 0.1593017578125
        )
        return (nit / WHITE).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return scene.astype(np.float32)


@functools.cache
def _display() -> npt.NDArray[np.uint8]:
    return np.rint(255 * (np.arange(LEVELS) / (LEVELS - 1)) ** (1 / GAMMA)).astype(np.uint8)
