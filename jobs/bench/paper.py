"""`harmoview bench paper`: the paper's tables, and what their own columns add up to."""

from __future__ import annotations

import json
from dataclasses import dataclass

from jobs.cli import command


@dataclass(frozen=True)
class PaperSettings:
    """Recompute the Total of the paper's Tables 1 and 2 from their printed columns.

    A row is flagged where rounding to two decimals cannot explain the difference. Also prints the
    order of the methods under all four published sets of weights.
    """

    json: bool = False
    """Print JSON instead of tables."""


def execute(settings: PaperSettings) -> None:
    """Compute and print."""
    from harmoview.bench.paper import as_dicts

    if settings.json:
        print(json.dumps({"rows": as_dicts()}, indent=1, ensure_ascii=False))
        return
    from jobs.console.bench import print_paper

    print_paper()


main = command(__name__, PaperSettings, execute)
