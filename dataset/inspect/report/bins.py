"""Thresholds as a few stops, scores as how many of them they pass.

Every stop of a slider is the edge of a bin, so that counts by bin answer exactly at every stop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset.inspect.report.plan import Check, Threshold

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
BITS = 5
"""Of a code, for each check: up to 31 stops."""
DETECTED = 1
"""The bin of a picture with a face, in front of the checks; 0 without one."""


def choose_stops(threshold: Threshold, values: Floats) -> Floats:
    """Round numbers where they reject up to half of the scores, the threshold itself and its
    bounds; rising."""
    finite = values[np.isfinite(values)]
    low = high = threshold.value
    if len(finite):
        inner = np.quantile(finite, (0.01, 0.5) if threshold.stricter == "up" else (0.5, 0.99))
        low, high = min(low, float(inner[0])), max(high, float(inner[1]))
    # room to both sides also where every score lies on one
    room = max(high - low, abs(threshold.value) / 2) / 4
    low, high = min(low, threshold.value - room), max(high, threshold.value + room)
    least = -math.inf if threshold.least is None else threshold.least
    most = math.inf if threshold.most is None else threshold.most
    low, high = max(low, least), min(high, most)
    step, digits = _round_step((high - low) / threshold.steps)
    digits = min(digits, threshold.decimals)
    first, last = math.ceil(low / step), math.floor(high / step)
    grid = {round(number * step, digits) for number in range(first, last + 1)} if step else set()
    grid |= {bound for bound in (least, most) if math.isfinite(bound)}
    inside = {stop for stop in grid if least <= stop <= most}
    return np.array(sorted(inside | {threshold.value}))


def _round_step(rough: float) -> tuple[float, int]:
    """The next of 1, 2, 2.5, 5 times a power of ten, and the decimals of its multiples."""
    if rough <= 0:
        return 1.0, 0
    power = math.floor(math.log10(rough))
    factor = next(factor for factor in (1, 2, 2.5, 5, 10) if factor * 10**power >= rough)
    return factor * 10.0**power, max(0, 1 - power)


def position(threshold: Threshold, stops: Floats) -> int:
    """Where among the stops the threshold stands."""
    return int(np.searchsorted(stops, threshold.value))


def strictness(threshold: Threshold, stops: Floats, at: int) -> int:
    """The number of a stop when they are counted from the loosest."""
    return at if threshold.stricter == "up" else len(stops) - 1 - at


def bins(check: Check, stops: Floats, scores: Floats) -> Codes:
    """How many stops each score passes, from the loosest on: it passes number n if that is > n.

    A score that is not there (NaN) passes none.
    """
    if check.kind == "at_least":
        passed = np.searchsorted(stops, scores, "right")
    elif check.kind == "beyond":
        passed = np.searchsorted(stops, scores if check.yaw > 0 else -scores, "right")
    elif check.kind == "at_most":
        passed = len(stops) - np.searchsorted(stops, np.abs(scores), "left")
    else:  # the very sums that the rules compare with
        over = np.searchsorted((check.yaw - stops)[::-1], scores, "right")
        under = len(stops) - np.searchsorted(check.yaw + stops, scores, "left")
        passed = np.minimum(over, under)
    return np.where(np.isnan(scores), 0, passed).astype(np.int64)


def pack(detected: NDArray[np.bool_], columns: Sequence[Codes]) -> Codes:
    """One code for each picture, the first check in the highest bits.

    What comes after a check that fails at every stop decides nothing, and is left out: 0.
    """
    alive = detected.copy()
    code = alive.astype(np.int64) * DETECTED
    for column in columns:
        code = (code << BITS) | np.where(alive, column, 0)
        alive &= column > 0
    return code


def unpack(code: Codes, checks: int) -> Codes:
    """The bins of codes, (1 + checks, codes); the first row tells whether a face was found."""
    shifts = BITS * np.arange(checks, -1, -1)
    rows: Codes = (code[None, :] >> shifts[:, None]) & ((1 << BITS) - 1)
    return rows


def first_failing(rows: Codes, stops: Sequence[int]) -> Codes:
    """For unpacked codes, the row that fails first at these stops (counted from the loosest).

    The number of rows where none does.
    """
    failing: Any = rows <= np.array([0, *stops])[:, None]
    found: Codes = np.where(failing.any(axis=0), failing.argmax(axis=0), len(rows))
    return found


def thin_out(stops: Floats, keep: int) -> NDArray[np.bool_]:
    """Every other stop, with the one at `keep` and both ends among them."""
    kept: NDArray[np.bool_] = (np.arange(len(stops)) - keep) % 2 == 0
    kept[[0, -1]] = True
    return kept


def thinned(rows: Codes, kept: NDArray[np.bool_]) -> Codes:
    """Bins among the stops that are kept; `kept` from the loosest stop on."""
    table = np.concatenate([[0], np.cumsum(kept)])
    found: Codes = table[rows]
    return found
