"""How the scores of a run lie: histograms by yaw, from which the page also draws quantiles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataset.inspect.report.bins import Floats

BARS = 60


@dataclass(frozen=True, slots=True)
class ScoreChart:
    """One score, as the page draws it."""

    name: str
    column: str
    title: str
    axis: str
    less_yaw: bool = False
    """Whether the yaw asked for is subtracted."""

    def drawn(self, scores: Mapping[str, Floats], yaw: int | Floats) -> Floats:
        """What is drawn of the scores of some views, each at its yaw."""
        values = scores[self.column]
        return values - yaw if self.less_yaw else values


CHARTS = (
    ScoreChart("sharpness", "sharpness", "Sharpness", "sharpness"),
    ScoreChart("sharpness_ratio", "sharpness_ratio", "Sharpness over reference", "ratio"),
    ScoreChart("aesthetic", "aesthetic", "Aesthetic", "score"),
    ScoreChart("identity_cosine", "identity_cosine", "Identity cosine", "cosine"),
    ScoreChart("pose_error", "measured_yaw", "Pose error", "degrees", less_yaw=True),
)


class Histogram:
    """Counts of the views by one score, for every yaw over the same bars."""

    def __init__(
        self, chart: ScoreChart, sample: Mapping[str, Floats], yaws: Iterable[int]
    ) -> None:
        """The scores of some views, `sample`, show where they lie; the end bars hold what lies
        outside, too."""
        self.chart = chart
        self.edges = _edges(chart, sample)
        self.counts = {yaw: np.zeros(BARS, np.int64) for yaw in yaws}
        self.unmeasured = dict.fromkeys(self.counts, 0)
        """Views without this score."""

    def add(self, yaw: int, scores: Mapping[str, Floats]) -> None:
        """Count some views at a yaw."""
        values = self.chart.drawn(scores, yaw)
        measured = values[~np.isnan(values)]
        places = (measured - self.edges[0]) * (BARS / (self.edges[-1] - self.edges[0]))
        places = places.clip(0, BARS - 1).astype(np.int64)
        self.counts[yaw] += np.bincount(places, minlength=BARS)
        self.unmeasured[yaw] += len(values) - len(measured)

    def as_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {
            "edges": [float(f"{edge:.6g}") for edge in self.edges],
            "counts": {str(yaw): counts.tolist() for yaw, counts in self.counts.items()},
            "unmeasured": {str(yaw): count for yaw, count in self.unmeasured.items()},
        }


def _edges(chart: ScoreChart, sample: Mapping[str, Floats]) -> Floats:
    values = chart.drawn(sample, sample["yaw"])
    values = values[np.isfinite(values)]
    if not len(values):
        return np.linspace(0.0, 1.0, BARS + 1)
    low, high = np.quantile(values, (0.002, 0.998))
    if chart.less_yaw:
        high = min(max(abs(low), abs(high), 15.0), 60.0)
        low = -high
    return np.linspace(low, high if high > low else low + 1.0, BARS + 1)
