"""Scores as bins: how many of a slider's stops each of them passes.

Every stop of a slider is the edge of a bin, so that counts by bin answer exactly at every stop. The
bins of all the checks of a picture make its code, in which the first check has the highest bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from filters.checks import Check, RuleChecks, Threshold

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

BITS = 5
"""Bits of a code for each check: a slider has up to 31 stops."""
ABSENT = -1
"""The code of a view that an identity does not have."""
MOST_CHECKS = 12
"""Checks whose bins a code of 64 bits has room for."""


@dataclass(frozen=True, slots=True)
class PictureGroup:
    """The pictures that go through the same checks: the references, or the views at a yaw."""

    yaw: int | None
    """None for the references."""
    own: tuple[Check, ...]
    nearer: tuple[Check, ...] = ()

    @property
    def checks(self) -> tuple[Check, ...]:
        """All of them, in the order in which they decide."""
        return self.own + self.nearer


def picture_groups(checks: RuleChecks) -> list[PictureGroup]:
    """The references, then the views by rising yaw.

    Raises ValueError when some picture goes through more checks than a code has room for.
    """
    views = (PictureGroup(yaw, view.own, view.nearer) for yaw, view in checks.views.items())
    groups = [PictureGroup(None, checks.reference), *views]
    if (most := max(len(group.checks) for group in groups)) > MOST_CHECKS:
        raise ValueError(f"the report has room for {MOST_CHECKS} checks of a view, not {most}")
    return groups


def slider_stops(threshold: Threshold, values: Floats) -> Floats:
    """Where a threshold can be moved to, rising: round numbers where it rejects up to half of the
    `values` that it is compared with, its own value, and the bounds of its range."""
    finite = values[np.isfinite(values)]
    low = high = threshold.value
    if len(finite):
        shares = (0.01, 0.5) if threshold.rejects_upwards else (0.5, 0.99)
        inner = np.quantile(finite, shares)
        low, high = min(low, float(inner[0])), max(high, float(inner[1]))
    # room to both sides also where every score lies on one
    room = max(high - low, abs(threshold.value) / 2) / 4
    least, most = threshold.least, threshold.most
    low = max(min(low, threshold.value - room), least)
    high = min(max(high, threshold.value + room), most)
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
    """The place among the stops of the threshold's own value."""
    return int(np.searchsorted(stops, threshold.value))


def strictness(threshold: Threshold, stops: Floats, at: int) -> int:
    """The number of a stop when they are counted from the loosest."""
    return at if threshold.rejects_upwards else len(stops) - 1 - at


@dataclass(frozen=True, slots=True)
class Binning:
    """The bins of one check."""

    low: Floats
    """The least score that passes at each stop, from the loosest on; rising."""
    high: Floats
    """The largest score that passes, negative, so that it rises too."""

    @classmethod
    def of(cls, check: Check, stops: Floats) -> Binning:
        """The bins of a check at the stops of its threshold, or of a yes or a no."""
        if check.threshold is None:
            bounds = [check.bounds]
        else:
            ordered = stops if check.threshold.rejects_upwards else stops[::-1]
            bounds = [check.threshold.bounds(check.yaw, float(stop)) for stop in ordered]
        low, high = np.array(bounds).T
        return cls(low, -high)

    def __call__(self, scores: Floats) -> Codes:
        """How many stops each score passes, from the loosest on: it passes number n if that is > n.

        A score that is not there (NaN) passes none.
        """
        passed = np.searchsorted(self.low, scores, "right")
        if np.isfinite(self.high[0]):
            passed = np.minimum(passed, np.searchsorted(self.high, -scores, "right"))
        passed[np.isnan(scores)] = 0
        return passed


def pack(rows: Sequence[Codes]) -> Codes:
    """One code for each picture, from a row of bins for each check."""
    code = np.zeros(len(rows[0]), np.int64)
    for row in rows:
        code = (code << BITS) | row
    return code


def unpack(codes: Codes, checks: int) -> Codes:
    """The bins of codes, (checks, codes)."""
    shifts = BITS * np.arange(checks - 1, -1, -1)
    rows: Codes = (codes[None, :] >> shifts[:, None]) & ((1 << BITS) - 1)
    return rows


def first_failing(rows: Codes, levels: Sequence[int]) -> Codes:
    """The row that fails first at these stops, one for each row, counted from the loosest; the
    number of rows where none fails."""
    failing = rows <= np.array(levels)[:, None]
    found: Codes = np.where(failing.any(axis=0), failing.argmax(axis=0), len(rows))
    return found


def canonical(codes: Codes, checks: int) -> Codes:
    """The codes without what decides nothing: the bins after a check that fails at its loosest
    stop, and so at all of them, are 0. `ABSENT` stays."""
    rows = unpack(codes, checks)
    rows[1:] *= np.cumprod(rows > 0, axis=0)[:-1]
    return np.where(codes == ABSENT, ABSENT, pack([*rows]))


def thin_out(stops: Floats, keep: int) -> Flags:
    """Every other stop, with the one at `keep` and both ends among them."""
    kept: Flags = (np.arange(len(stops)) - keep) % 2 == 0
    kept[[0, -1]] = True
    return kept


def thinned(bins: Codes, kept: Flags) -> Codes:
    """Bins among the stops that are kept; `kept` begins with the loosest stop."""
    table = np.concatenate([[0], np.cumsum(kept)])
    found: Codes = table[bins]
    return found
