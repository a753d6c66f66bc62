"""The values behind tables: stored rows by method, column and case."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from datapipe.errors import UserError
from harmoview.bench.add import IMPORTED
from harmoview.bench.columns import PUBLISHED, ordered
from harmoview.bench.published import NEXUS_STRICT
from harmoview.bench.suite_json import Case

Floats = npt.NDArray[np.float64]
Values = Mapping[tuple[str, int], Sequence[float]]
"""By case and seed: of a published column one value, of an own one a value for each person."""


@dataclass(frozen=True, slots=True)
class Sums:
    """A column of one method, by case."""

    total: Floats
    count: Floats
    """Values in each sum."""

    @property
    def n(self) -> int:
        return int(self.count.sum())

    def mean(self) -> float | None:
        return float(self.total.sum() / self.count.sum()) if self.n else None

    def means(self, weights: Floats) -> Floats:
        """(resamples,) means; each case counts as often as `weights` (resamples, cases) say."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((weights @ self.total) / (weights @ self.count))


@dataclass(frozen=True, eq=False)
class Results:
    """Everything that was measured of a suite's cases."""

    suite_sha256: str
    cases: tuple[str, ...]
    people: tuple[tuple[str, ...], ...]
    """Identities of each case."""
    values: Mapping[tuple[str, str], Values]
    """By method and column."""
    blank: Mapping[tuple[str, str], Mapping[str, int]]
    """By method and column: how often there is no value, by status and reason."""
    failed: Mapping[tuple[str, str, int], str]
    """By method, case and seed: why something could not be measured of a video."""

    @property
    def methods(self) -> list[str]:
        return sorted({method for method, _ in [*self.values, *self.blank]})

    @property
    def columns(self) -> list[str]:
        """All that any method has a row for, in the order of tables."""
        return ordered(column for _, column in [*self.values, *self.blank])

    def sums(self, method: str, column: str, only: Iterable[tuple[str, int]] | None = None) -> Sums:
        """A column by case; `only` these videos."""
        found = self.values.get((method, column), {})
        kept = found if only is None else {key: found[key] for key in only}
        place = {case: number for number, case in enumerate(self.cases)}
        total, count = np.zeros(len(self.cases)), np.zeros(len(self.cases))
        for (case, _), values in kept.items():
            total[place[case]] += sum(values)
            count[place[case]] += len(values)
        return Sums(total, count)


def collect(rows: Iterable[Mapping[str, Any]], cases: Sequence[Case], suite_sha256: str) -> Results:
    """Sort stored rows. Raises UserError where one is of another suite."""
    known = {case.id for case in cases}
    latest: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for row in rows:
        if row["suite_sha256"] != suite_sha256:
            raise UserError(
                f"scores of {row['method']} {row['case']} are of the suite "
                f"{row['suite_sha256'][:12]}, not of {suite_sha256[:12]}: results of different "
                "suites do not share a table"
            )
        if row["case"] in known:
            names = ("method", "case", "seed", "identity", "metric", "variant")
            key = tuple(row[name] for name in names)
            latest[key] = _preferred(latest.get(key), row)
    values: dict[tuple[str, str], dict[tuple[str, int], list[float]]] = defaultdict(dict)
    blank: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    failed: dict[tuple[str, str, int], str] = {}
    for row in latest.values():
        if row["status"] == "failed":
            failed[row["method"], row["case"], row["seed"]] = row["reason"]
        bins = f"[{row['variant']}]" if row["variant"] else ""
        place = (row["method"], row["metric"] + bins)
        if row["value"] is None:
            blank[place][row["status"] + (f": {row['reason']}" if row["reason"] else "")] += 1
        else:
            one = values[place].setdefault((row["case"], row["seed"]), [])
            one.append(float(row["value"]))
    for method, column in list(values):
        if column == "opens2v_nexus":
            raw = values[method, column]
            values[method, NEXUS_STRICT.name] = {key: list(found) for key, found in raw.items()}
    return Results(
        suite_sha256=suite_sha256,
        cases=tuple(case.id for case in cases),
        people=tuple(tuple(who.id for who in case.identities) for case in cases),
        values={place: _entering(place[1], found) for place, found in values.items()},
        blank={place: dict(found) for place, found in blank.items()},
        failed=failed,
    )


def _preferred(one: Mapping[str, Any] | None, other: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of two rows for one number: the one with a value, then the one that was measured here."""
    if one is None:
        return other

    def worth(row: Mapping[str, Any]) -> tuple[bool, bool]:
        return row["value"] is not None, not row["model_sha256"].startswith(IMPORTED)

    return max(one, other, key=worth)


def _entering(column: str, found: Mapping[tuple[str, int], list[float]]) -> Values:
    """The values as they enter means: published ones clipped, one a video."""
    published = PUBLISHED.get(column)
    if published is None:
        return found
    entering = {}
    for key, values in found.items():
        value = float(published.clipped([sum(values) / len(values)])[0])
        if not np.isnan(value):
            entering[key] = [value]
    return entering
