"""How the scores of a run lie: histograms by yaw, and the quantiles that the charts draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dataset.inspect.report.bins import Floats
from dataset.inspect.report.plan import Check, Plan
from dataset.inspect.report.segments import Identities

BARS = 60
DRAWN = {
    "sharpness": "sharpness",
    "sharpness_ratio": "sharpness_ratio",
    "aesthetic": "aesthetic",
    "identity_cosine": "identity_cosine",
    "pose_error": "measured_yaw",
}
"""Histograms, and the columns they are of; the pose error is the measured yaw less the yaw."""


def compared(plan: Plan, part: Identities) -> list[Floats]:
    """For each threshold of the plan, the numbers that it is compared with."""
    found: list[list[Floats]] = [[] for _ in plan.thresholds]
    for check in plan.references:
        found[check.threshold].append(part.references.scores[check.column])
    for yaw, checks in plan.views.items():
        for check in checks:
            if check.yaw == yaw and yaw in part.views:
                found[check.threshold].append(_compared(check, part))
    return [np.concatenate([np.empty(0), *lists]) for lists in found]


def _compared(check: Check, part: Identities) -> Floats:
    scores = part.views[check.yaw].scores[check.column]
    match check.kind:
        case "at_least":
            return scores
        case "at_most":
            return np.abs(scores)
        case "around":
            return np.abs(scores - check.yaw)
        case "beyond":
            return scores if check.yaw > 0 else -scores


class Histograms:
    """Counts of the views by score, for every yaw over the same bars."""

    def __init__(self, first: Sequence[Identities], yaws: Sequence[int]) -> None:
        """`first` shows where the scores lie; what lies outside is counted in the end bars."""
        self.edges = {name: self._edges(name, first, yaws) for name in DRAWN}
        self.counts = {name: {yaw: np.zeros(BARS, np.int64) for yaw in yaws} for name in DRAWN}
        self.unmeasured = {name: dict.fromkeys(yaws, 0) for name in DRAWN}

    @staticmethod
    def _edges(name: str, first: Sequence[Identities], yaws: Sequence[int]) -> Floats:
        values = np.concatenate(
            [np.empty(0), *(_drawn(name, part, yaw) for part in first for yaw in yaws)]
        )
        values = values[np.isfinite(values)]
        if not len(values):
            return np.linspace(0.0, 1.0, BARS + 1)
        low, high = np.quantile(values, (0.002, 0.998))
        if name == "pose_error":
            high = min(max(abs(low), abs(high), 15.0), 60.0)
            low = -high
        return np.linspace(low, high if high > low else low + 1.0, BARS + 1)

    def add(self, part: Identities) -> None:
        for name, edges in self.edges.items():
            for yaw, counts in self.counts[name].items():
                values = _drawn(name, part, yaw)
                measured = values[~np.isnan(values)]
                places = (measured - edges[0]) * (BARS / (edges[-1] - edges[0]))
                places = places.clip(0, BARS - 1).astype(np.int64)
                counts += np.bincount(places, minlength=BARS)
                present = int(part.views[yaw].present.sum())
                self.unmeasured[name][yaw] += present - len(measured)

    def as_dict(self) -> dict[str, Any]:
        return {
            name: {
                "edges": [float(f"{edge:.6g}") for edge in edges],
                "counts": _by_yaw({y: c.tolist() for y, c in self.counts[name].items()}),
                "unmeasured": _by_yaw(self.unmeasured[name]),
            }
            for name, edges in self.edges.items()
        }


def _drawn(name: str, part: Identities, yaw: int) -> Floats:
    scores = part.views[yaw].scores[DRAWN[name]]
    return scores - yaw if name == "pose_error" else scores


def _by_yaw(table: Mapping[int, Any]) -> dict[str, Any]:
    return {str(yaw): value for yaw, value in table.items()}
