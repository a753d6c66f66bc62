"""The columns of OpenS2V-Eval as its authors compute them: clipping, normalisation, Total.

Read in OpenS2V-Nexus' `eval/merge_result.py` (v1.1) and checked against its leaderboard. Each value
is clipped, the mean taken over the videos that have one, the mean scaled to the column's range; the
Total is a weighted sum of these. A column that is missing makes the Total blank: weights are never
spread over the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

WeightSet = Literal["open_v1_1", "human_v1_1", "open_v1_0", "human_v1_0"]
WEIGHT_SETS: tuple[WeightSet, ...] = get_args(WeightSet)
DEFAULT_WEIGHTS: WeightSet = "open_v1_1"
"""The set that reproduces the paper's Total, though the paper speaks of human-domain evaluation."""


@dataclass(frozen=True, slots=True)
class PublishedColumn:
    """One of the seven metrics."""

    name: str
    label: str
    """As the paper's tables head it."""
    low: float
    high: float
    """The range that is scaled to 0..1."""
    clips_low: bool = False
    """Whether values below `low` count as `low`."""
    absolute: bool = False
    """Whether the sign is dropped first."""
    drops_zeros: bool = False
    """Whether a value of exactly 0 leaves the mean."""

    def clipped(self, values: npt.ArrayLike) -> Floats:
        """Values as they enter the mean; those that do not are NaN."""
        kept = np.array(values, float)
        if self.drops_zeros:
            kept[kept == 0] = np.nan
        if self.absolute:
            kept = np.abs(kept)
        return np.asarray(np.clip(kept, self.low if self.clips_low else None, self.high))

    def scaled(self, mean: npt.ArrayLike) -> Floats:
        """Means of clipped values as 0..1."""
        return (np.asarray(mean, float) - self.low) / (self.high - self.low)


COLUMNS = (
    PublishedColumn("opens2v_natural", "Natural", 1, 5, clips_low=True),
    PublishedColumn("opens2v_aes", "AES", 4, 7, clips_low=True),
    PublishedColumn("opens2v_smooth", "Smooth", 0, 1, absolute=True),
    PublishedColumn("opens2v_amp", "Motion Amp", 0, 1, absolute=True),
    PublishedColumn("opens2v_gme", "GME", 0, 1),
    PublishedColumn("opens2v_facesim_cur", "FaceSim", 0, 1),
    PublishedColumn("opens2v_nexus", "Nexus", 0, 0.05, drops_zeros=True),
)
"""In the order of the paper's tables."""
COLUMN = MappingProxyType({column.name: column for column in COLUMNS})
NEXUS_STRICT = PublishedColumn("opens2v_nexus_strict", "Nexus (0 counts)", 0, 0.05)
"""The official Nexus of the same values, but for videos in which nothing was found: they count."""


def _weights(*shares: float) -> Mapping[str, float]:
    return MappingProxyType(dict(zip(COLUMN, shares, strict=True)))


WEIGHTS: Mapping[WeightSet, Mapping[str, float]] = MappingProxyType(
    {  # natural, aes, smooth, amp, gme, facesim, nexus
        "open_v1_1": _weights(0.24, 0.16, 0.06, 0.02, 0.12, 0.20, 0.20),
        "human_v1_1": _weights(0.30, 0.18, 0.09, 0.03, 0.15, 0.25, 0.0),
        "open_v1_0": _weights(0.24, 0.12, 0.0, 0.12, 0.12, 0.20, 0.20),
        "human_v1_0": _weights(0.30, 0.15, 0.0, 0.15, 0.15, 0.25, 0.0),
    }
)


@dataclass(frozen=True, slots=True)
class Total:
    """A weighted sum, or how much of it is missing."""

    value: float | None
    """In the unit of the columns; None where a weighted column is missing."""
    missing: float
    """The share of the weights whose columns are missing, 0..1."""
    missing_columns: tuple[str, ...] = ()


def total(scaled: Mapping[str, float | None], weights: WeightSet = DEFAULT_WEIGHTS) -> Total:
    """The Total of scaled columns (all 0..1, or all 0..100)."""
    needed = {name: share for name, share in WEIGHTS[weights].items() if share}
    missing = tuple(name for name in needed if scaled.get(name) is None)
    if missing:
        return Total(None, round(sum(needed[name] for name in missing), 6), missing)
    value = sum(share * float(scaled[name] or 0.0) for name, share in needed.items())
    return Total(value, 0.0)


def ranks(totals: Sequence[float | None]) -> list[int | None]:
    """Rank 1 is the highest; equals share a rank; what has no Total has none."""
    known = [value for value in totals if value is not None]
    return [
        None if value is None else 1 + sum(other > value for other in known) for value in totals
    ]
