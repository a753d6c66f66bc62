"""`harmoview bench table`: the methods of a run side by side."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from datapipe.errors import UserError
from harmoview.bench.published import DEFAULT_WEIGHTS, WeightSet
from harmoview.bench.results import Results, collect
from harmoview.bench.run import Method, open_bench
from harmoview.bench.store import read_scores
from harmoview.bench.table import Resampling, table
from jobs.cli import command


@dataclass(frozen=True)
class TableSettings:
    """Print means with 95 % intervals and what stands behind them, Totals and ranks.

    The paper's layout, the project's own figures, and those by yaw. A Total whose columns are not
    all there is blank, and says which share of its weights is missing.
    """

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """The benchmark run."""
    layout: Literal["all", "paper", "ablation", "own", "yaw"] = "all"
    """paper: the paper's Table 1; ablation: its Table 2; own: hv figures; yaw: those by yaw."""
    format: Literal["text", "markdown", "latex"] = "text"
    """How to print."""
    weights: WeightSet = DEFAULT_WEIGHTS
    """Weights of the Total; ranks are printed under all four sets."""
    resampling: tyro.conf.OmitArgPrefixes[Resampling] = field(default_factory=Resampling)
    suite: str | None = None
    """The suite, where it has moved."""
    json: bool = False
    """Print JSON: one object a method, with every column, n and interval."""


def execute(settings: TableSettings) -> None:
    """Resample and print."""
    results, labels = results_of(settings.run, settings.suite)
    rows = table(results, settings.weights, settings.resampling)
    if settings.json:
        found = [
            {"label": labels[row.method].label if row.method in labels else row.method}
            | row.as_dict(settings.weights)
            for row in rows
        ]
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return
    from jobs.console.bench_table import print_table

    print_table(results, rows, labels, settings.weights, settings.layout, settings.format)


def results_of(url: str, suite: str | None) -> tuple[Results, dict[str, Method]]:
    """What was measured of a run, and how its methods are labelled. Raises UserError."""
    run = open_bench(url, suite)
    rows = read_scores(run.folder)
    if not rows:
        raise UserError(f"{url} has no scores yet: `harmoview bench score {url}` makes them")
    return collect(rows, run.suite.cases, run.suite.sha256), dict(run.methods())


main = command(__name__, TableSettings, execute)
