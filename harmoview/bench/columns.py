"""The columns of tables: published ones and the project's own, which are never mixed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from harmoview.bench.identity import BINS
from harmoview.bench.published import COLUMN, COLUMNS, NEXUS_STRICT

Better = Literal["up", "down", "none"]


@dataclass(frozen=True, slots=True)
class OwnColumn:
    """A metric of the project's own."""

    name: str
    label: str
    better: Better = "none"
    """Which way is better, where one is."""
    digits: int = 3


OWN = (
    OwnColumn("hv_detected", "detected", "up"),
    OwnColumn("hv_face_front", "face, frontal ref."),
    OwnColumn("hv_face_view", "face, nearest ref.", "up"),
    OwnColumn("hv_face_std", "face, equal yaws", "up"),
    OwnColumn("hv_view_match", "view match", "up"),
    OwnColumn("hv_exposure", "exposure"),
    OwnColumn("hv_yaw_span", "yaw span °", digits=1),
    OwnColumn("hv_yaw_reached", "of yaw asked", "up"),
    OwnColumn("hv_rank1", "rank-1", "up"),
    OwnColumn("hv_crosstalk", "crosstalk", "down"),
    OwnColumn("hv_swapped", "swapped", "down"),
    OwnColumn("hv_missing", "missing", "down"),
    OwnColumn("hv_extra_people", "extra people", "down"),
    OwnColumn("hv_assign_margin", "margin", "up"),
    OwnColumn("hv_ambiguous", "ambiguous", "down"),
    OwnColumn("hv_flow", "flow /s"),
    OwnColumn("hv_interp", "interpolation", "up", digits=4),
    OwnColumn("hv_brisque", "100 − BRISQUE", "up", digits=1),
    OwnColumn("hv_sharpness", "face sharpness", "up"),
    OwnColumn("hv_face_front_true", "face, frontal ref., true yaw"),
    OwnColumn("hv_face_view_true", "face, nearest ref., true yaw", "up"),
    OwnColumn("hv_face_std_true", "face, equal true yaws", "up"),
    OwnColumn("hv_view_match_true", "view match, true yaw", "up"),
    OwnColumn("hv_exposure_true", "exposure, true yaw"),
    OwnColumn("nexus_mean", "Nexus, undivided", "up"),
)
"""In the order of tables. `_true` is by the yaw of virtual people instead of the measured one."""
OWN_COLUMN = {column.name: column for column in OWN}
PUBLISHED = {**COLUMN, NEXUS_STRICT.name: NEXUS_STRICT}

_ORDER = {name: place for place, name in enumerate([*PUBLISHED, *OWN_COLUMN])}
_BIN = {name: place for place, name in enumerate(["", *BINS])}
METRICS = tuple(_ORDER)


def parts(column: str) -> tuple[str, str]:
    """Metric and bin of a column's name: `hv_face_view[15-45]`."""
    metric, _, rest = column.partition("[")
    return metric, rest.rstrip("]")


def ordered(columns: Iterable[str]) -> list[str]:
    """Columns as tables show them; unknown ones last."""

    def key(column: str) -> tuple[int, int, str]:
        metric, variant = parts(column)
        return _ORDER.get(metric, len(_ORDER)), _BIN.get(variant, len(_BIN)), column

    return sorted(set(columns), key=key)


def label(column: str) -> str:
    """The heading of a column."""
    metric, variant = parts(column)
    if metric in PUBLISHED:
        return PUBLISHED[metric].label
    own = OWN_COLUMN.get(metric)
    title = own.label if own else metric
    return f"{title} {variant}°" if variant else title


def better(column: str) -> Better:
    """Which way is better."""
    metric, _ = parts(column)
    if metric in PUBLISHED:
        return "none" if metric == "opens2v_amp" else "up"
    own = OWN_COLUMN.get(metric)
    return own.better if own else "none"


def digits(column: str) -> int:
    """Decimals in tables."""
    metric, _ = parts(column)
    if metric in PUBLISHED:
        return 2
    own = OWN_COLUMN.get(metric)
    return own.digits if own else 3


PAPER = tuple(column.name for column in COLUMNS)
