"""The benchmark's tables on a terminal, or as plain text in a pipe."""

from __future__ import annotations

from rich.text import Text

from harmoview.bench.paper import ROUNDING, ROWS
from harmoview.bench.published import COLUMNS, DEFAULT_WEIGHTS, WEIGHT_SETS, ranks
from jobs.console.output import new_table, screen


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
        console.print(f"  {method}: {listed}", soft_wrap=True)
    first = [row for row in ROWS if row.table == 1]
    table = new_table("Table 1 under every set of weights: Total (rank)", "method", *WEIGHT_SETS)
    totals = [[row.predicted(name) for row in first] for name in WEIGHT_SETS]
    placed = [ranks(column) for column in totals]
    for place, row in enumerate(first):
        cells = (f"{t[place]:.2f} ({r[place]})" for t, r in zip(totals, placed, strict=True))
        table.add_row(row.method, *cells)
    console.print(table)
