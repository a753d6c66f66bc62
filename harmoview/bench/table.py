"""Methods side by side: means with what stands behind them, Totals, ranks, and differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from datapipe.errors import UserError, check_range
from harmoview.bench.columns import PUBLISHED
from harmoview.bench.published import (
    COLUMN,
    DEFAULT_WEIGHTS,
    WEIGHT_SETS,
    WEIGHTS,
    WeightSet,
    ranks,
    total,
)
from harmoview.bench.results import Results, Sums
from harmoview.bench.statistics import (
    RESAMPLES,
    Interval,
    case_weights,
    identity_weights,
    interval,
)

Floats = npt.NDArray[np.float64]
Cluster = Literal["case", "identity"]
TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals are made."""

    cluster: Cluster = "case"
    """What intervals resample: cases, or the identities that cases share."""
    seed: int = 0
    """Seed of the resampling."""
    resamples: int = RESAMPLES
    """How often the cases are drawn again."""

    def __post_init__(self) -> None:
        check_range(self, "resamples", least=1)

    def weights(self, results: Results) -> Floats:
        """(resamples, cases)."""
        if self.cluster == "identity":
            return identity_weights(results.people, self.seed, self.resamples)
        return case_weights(len(results.cases), self.seed, self.resamples)

    def interval(self, results: Results, sums: Sums, samples: npt.ArrayLike) -> Interval | None:
        """Of resampled means of a column; None where only one case, or identity, has values."""
        counted = np.flatnonzero(sums.count)
        units = {name for place in counted for name in results.people[place]}
        few = len(units if self.cluster == "identity" else counted) < 2
        return None if few else interval(samples)


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of a table."""

    value: float | None
    n: int
    """Values behind it."""
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class MethodRow:
    """One method. Published columns and Totals are points, 0..100; own columns are as measured."""

    method: str
    cells: Mapping[str, Cell]
    totals: Mapping[WeightSet, Cell]
    missing: Mapping[WeightSet, float]
    """The share of the weights whose columns are missing."""
    missing_columns: tuple[str, ...]
    """Of the chosen weights."""
    ranks: Mapping[WeightSet, int | None]

    def as_dict(self, weights: WeightSet) -> dict[str, Any]:
        """One JSON object: every column, `n` and `interval` of each."""
        cells = {TOTAL: self.totals[weights], **self.cells}
        return {
            "method": self.method,
            "weights": weights,
            **{name: cell.value for name, cell in cells.items()},
            "missing_weight": self.missing[weights],
            "missing_columns": list(self.missing_columns),
            "totals": {name: cell.value for name, cell in self.totals.items()},
            "rank": dict(self.ranks),
            "n": {name: cell.n for name, cell in cells.items()},
            "interval": {
                name: None if cell.interval is None else [cell.interval.low, cell.interval.high]
                for name, cell in cells.items()
            },
        }


def table(
    results: Results,
    weights: WeightSet = DEFAULT_WEIGHTS,
    resampling: Resampling | None = None,
) -> list[MethodRow]:
    """Every method in the order of its name, every column of any method."""
    resampling = resampling or Resampling()
    drawn = resampling.weights(results)
    columns = _with_published(results.columns)
    found = []
    for method in results.methods:
        sums = {column: results.sums(method, column) for column in columns}
        scale = {column: points(column) for column in columns}
        cells = {
            column: Cell(
                value=None if (mean := one.mean()) is None else float(scale[column](mean)),
                n=one.n,
                interval=resampling.interval(results, one, scale[column](one.means(drawn))),
            )
            for column, one in sums.items()
        }
        totals = {name: _total_cell(cells, sums, drawn, name) for name in WEIGHT_SETS}
        values = {column: cells[column].value for column in COLUMN}
        missing = {name: total(values, name).missing for name in WEIGHT_SETS}
        found.append((method, cells, totals, missing, total(values, weights).missing_columns))
    placed = {
        name: ranks([totals[name].value for _, _, totals, *_ in found]) for name in WEIGHT_SETS
    }
    return [
        MethodRow(
            method=method,
            cells=cells,
            totals=totals,
            missing=missing,
            missing_columns=columns_missing,
            ranks={name: placed[name][number] for name in WEIGHT_SETS},
        )
        for number, (method, cells, totals, missing, columns_missing) in enumerate(found)
    ]


def _with_published(columns: Sequence[str]) -> list[str]:
    """The seven published columns are always there, blank or not."""
    return [*COLUMN, *(column for column in columns if column not in COLUMN)]


def points(column: str) -> Callable[[Any], Any]:
    """From a mean to what tables show."""
    published = PUBLISHED.get(column)
    if published is None:
        return lambda mean: mean
    return lambda mean: 100 * published.scaled(mean)


def _total_cell(
    cells: Mapping[str, Cell],
    sums: Mapping[str, Sums],
    drawn: Floats,
    weights: WeightSet,
) -> Cell:
    """The Total and its interval: each resample is normalised and summed anew."""
    needed = {name: share for name, share in WEIGHTS[weights].items() if share}
    n = min(cells[name].n for name in needed)
    value = total({name: cells[name].value for name in needed}, weights).value
    if value is None:
        return Cell(None, n, None)
    resampled = sum(
        share * np.asarray(points(name)(sums[name].means(drawn))) for name, share in needed.items()
    )
    known = all(cells[name].interval for name in needed)
    return Cell(value, n, interval(np.asarray(resampled)) if known else None)


@dataclass(frozen=True, slots=True)
class Difference:
    """How much more of a column one method has than another, over the videos that both have."""

    column: str
    a: float | None
    b: float | None
    difference: float | None
    """B less A."""
    interval: Interval | None
    n: int
    """Videos, by case and seed."""
    higher: int
    """Of these, how often B is higher."""
    lower: int

    def as_dict(self) -> dict[str, Any]:
        data = asdict(self)
        data["interval"] = None if self.interval is None else list(asdict(self.interval).values())
        return data


def compare(
    results: Results,
    a: str,
    b: str,
    weights: WeightSet = DEFAULT_WEIGHTS,
    resampling: Resampling | None = None,
) -> list[Difference]:
    """B less A in every column and in the Total, paired by case and seed.

    Exchanging A and B changes every sign and nothing else. Raises UserError where a method is
    unknown.
    """
    for method in (a, b):
        if method not in results.methods:
            known = ", ".join(results.methods) or "none"
            raise UserError(f"there are no results of {method!r}; of these there are: {known}")
    resampling = resampling or Resampling()
    drawn = resampling.weights(results)
    found, resampled = {}, {}
    for column in _with_published(results.columns):
        one, two = (results.values.get((method, column), {}) for method in (a, b))
        both = sorted(set(one) & set(two))
        sums = [results.sums(method, column, both) for method in (a, b)]
        scale = points(column)
        if not both:
            found[column] = Difference(column, None, None, None, None, 0, 0, 0)
            continue
        means = [float(scale(part.mean())) for part in sums]
        spread = [np.asarray(scale(part.means(drawn))) for part in sums]
        resampled[column] = spread
        pairs = [(np.mean(one[key]), np.mean(two[key])) for key in both]
        found[column] = Difference(
            column=column,
            a=means[0],
            b=means[1],
            difference=means[1] - means[0],
            interval=resampling.interval(results, sums[0], spread[1] - spread[0]),
            n=len(both),
            higher=sum(bool(y > x) for x, y in pairs),
            lower=sum(bool(y < x) for x, y in pairs),
        )
    return [_total_difference(found, resampled, weights), *found.values()]


def _total_difference(
    found: Mapping[str, Difference],
    resampled: Mapping[str, Sequence[Floats]],
    weights: WeightSet,
) -> Difference:
    needed = {name: share for name, share in WEIGHTS[weights].items() if share}
    one, two = (
        total({name: getattr(found[name], side) for name in needed}, weights).value
        for side in ("a", "b")
    )
    n = min(found[name].n for name in needed)
    if one is None or two is None:
        return Difference(TOTAL, one, two, None, None, n, 0, 0)
    spread = sum(
        share * (resampled[name][1] - resampled[name][0]) for name, share in needed.items()
    )
    known = all(found[name].interval for name in needed)
    between = interval(np.asarray(spread)) if known else None
    return Difference(TOTAL, one, two, two - one, between, n, 0, 0)
