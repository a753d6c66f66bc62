"""The benchmark's tables on a terminal, or as plain text in a pipe."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harmoview.bench.paper import ROUNDING, ROWS
from harmoview.bench.published import COLUMNS, DEFAULT_WEIGHTS, WEIGHT_SETS, ranks
from jobs.console.output import plain

PIPED_WIDTH = 200


def console() -> Console:
    """Of the terminal's width; wide in a pipe, so that no table is folded."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=PIPED_WIDTH)


def new_table(title: str, *columns: str, words: int = 1) -> Table:
    """Its first `words` columns hold text, the others numbers."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place < words else "right", no_wrap=place == 0)
    return table


def text(words: str) -> Text:
    """Text from files, which cannot steer the terminal."""
    return Text(plain(words))


def print_paper() -> None:
    """Both tables, the flagged rows, the ranks under every set of weights."""
    screen = console()
    for number in (1, 2):
        table = new_table(
            f"Table {number}: Total from the printed columns ({DEFAULT_WEIGHTS})",
            *("", "method", "paper", "predicted", "residual", ""),
            words=2,
        )
        for row in (row for row in ROWS if row.table == number):
            mark = "not rounding" if row.flagged else ""
            table.add_row(
                *(row.label, row.method, f"{row.paper:.2f}", f"{row.predicted():.4f}"),
                *(f"{row.residual():+.4f}", Text(mark, style="red")),
            )
        screen.print(table)
    screen.print(f"Two decimals explain at most {ROUNDING:g}. Consistent would be one of:")
    labels = {"total": "Total"} | {column.name: column.label for column in COLUMNS}
    for method, repairs in {row.method: row.repairs() for row in ROWS if row.flagged}.items():
        listed = ", ".join(f"{labels[name]} {value:.2f}" for name, value in repairs.items())
        screen.print(f"  {method}: {listed}", soft_wrap=True)
    first = [row for row in ROWS if row.table == 1]
    table = new_table("Table 1 under every set of weights: Total (rank)", "method", *WEIGHT_SETS)
    totals = [[row.predicted(name) for row in first] for name in WEIGHT_SETS]
    placed = [ranks(column) for column in totals]
    for place, row in enumerate(first):
        cells = (f"{t[place]:.2f} ({r[place]})" for t, r in zip(totals, placed, strict=True))
        table.add_row(row.method, *cells)
    screen.print(table)
