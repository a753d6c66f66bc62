"""The benchmark's tables on a terminal, or as plain text in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from harmoview.bench.paper import ROUNDING, ROWS
from harmoview.bench.published import COLUMNS, DEFAULT_WEIGHTS, WEIGHT_SETS, ranks
from jobs.console.output import fold, new_table, plain, screen, text

if TYPE_CHECKING:
    from harmoview.bench.check import Problem


def print_paper() -> None:
    """Both tables, the flagged rows, the ranks under every set of weights."""
    console = screen()
    for number in (1, 2):
        table = new_table(
            f"Table {number}: Total from the printed columns ({DEFAULT_WEIGHTS})",
            *("", "method", "paper", "predicted", "residual", ""),
            words=["method"],
        )
        for row in (row for row in ROWS if row.table == number):
            mark = "not rounding" if row.flagged else ""
            table.add_row(
                *(row.label, row.method, f"{row.paper:.2f}", f"{row.predicted():.4f}"),
                *(f"{row.residual():+.4f}", Text(mark, style="red")),
            )
        console.print(table)
    console.print(f"Two decimals explain at most {ROUNDING:g}. Consistent would be one of:")
    labels = {"total": "Total"} | {column.name: column.label for column in COLUMNS}
    for method, repairs in {row.method: row.repairs() for row in ROWS if row.flagged}.items():
        listed = ", ".join(f"{labels[name]} {value:.2f}" for name, value in repairs.items())
        for line in fold(f"{method}: {listed}", console.width, "  ", "    "):
            console.print(line, soft_wrap=True)
    first = [row for row in ROWS if row.table == 1]
    table = new_table("Table 1 under every set of weights: Total (rank)", "method", *WEIGHT_SETS)
    totals = [[row.predicted(name) for row in first] for name in WEIGHT_SETS]
    placed = [ranks(column) for column in totals]
    for place, row in enumerate(first):
        cells = (f"{t[place]:.2f} ({r[place]})" for t, r in zip(totals, placed, strict=True))
        table.add_row(row.method, *cells)
    console.print(table)


def print_listed(what: str, names: Sequence[str], most: int = 20) -> None:
    """A heading and the names below it, on stderr; nothing where there are none."""
    if not names:
        return
    print(f"{what} ({len(names)}):", file=sys.stderr)
    for name in names[:most]:
        print(f"  {plain(name)}", file=sys.stderr)
    if len(names) > most:
        print(f"  … and {len(names) - most} more", file=sys.stderr)


def print_problems(problems: Sequence[Problem]) -> None:
    """One line each, errors first; then how many."""
    console = screen()
    for level, style in (("error", "red"), ("warning", "yellow")):
        for problem in (one for one in problems if one.level == level):
            line = text(f"{problem.where}: {problem.what}")
            console.print(Text(f"{level:<8}", style=style) + line, soft_wrap=True)
    errors = sum(problem.level == "error" for problem in problems)
    print(f"{errors} errors, {len(problems) - errors} warnings")
