"""`harmoview bench compare`: one method less another, paired by case and seed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from harmoview.bench.published import DEFAULT_WEIGHTS, WeightSet
from harmoview.bench.table import Resampling, compare
from jobs.bench.table import results_of
from jobs.cli import command


@dataclass(frozen=True)
class CompareSettings:
    """Print how much more of each column B has than A, with 95 % intervals.

    Only videos of the same case and seed count, so that the cases' own difficulty cancels.
    """

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """The benchmark run."""
    a: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="A")]
    """A method."""
    b: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="B")]
    """The method that is compared with it."""
    weights: WeightSet = DEFAULT_WEIGHTS
    """Weights of the Total."""
    resampling: tyro.conf.OmitArgPrefixes[Resampling] = field(default_factory=Resampling)
    suite: str | None = None
    """The suite, where it has moved."""
    json: bool = False
    """Print JSON instead of a table."""


def execute(settings: CompareSettings) -> None:
    """Pair, resample, print."""
    results, _ = results_of(settings.run, settings.suite)
    found = compare(results, settings.a, settings.b, settings.weights, settings.resampling)
    if settings.json:
        named = {"a": settings.a, "b": settings.b, "weights": settings.weights}
        print(json.dumps({**named, "columns": [one.as_dict() for one in found]}, indent=1))
        return
    from jobs.console.bench_table import print_differences

    print_differences(settings.a, settings.b, found)


main = command(__name__, CompareSettings, execute)
