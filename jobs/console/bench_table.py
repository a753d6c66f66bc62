"""Tables of methods as text, Markdown or LaTeX."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.text import Text

from harmoview.bench.columns import OWN, PAPER, better, digits, label
from harmoview.bench.identity import BINS
from harmoview.bench.published import NEXUS_STRICT, WEIGHT_SETS, WeightSet
from harmoview.bench.results import Results
from harmoview.bench.run import Method
from harmoview.bench.table import TOTAL, Cell, Difference, MethodRow
from jobs.console.output import new_table, screen, text

Layout = Literal["all", "paper", "ablation", "own", "yaw"]
Format = Literal["text", "markdown", "latex"]


@dataclass(frozen=True)
class Grid:
    """A table before it is printed; the first column holds names."""

    title: str
    head: list[str]
    rows: list[list[str | Cell]]
    digits: list[int]
    """Of each row's cells; or, where `by_column`, of each column's."""
    by_column: bool
    best: set[tuple[int, int]]
    """Row and column of the cells that are best in their kind."""
    headings: Mapping[int, str]
    """Words above a row: a group of methods."""


def print_table(
    results: Results,
    rows: Sequence[MethodRow],
    labels: Mapping[str, Method],
    weights: WeightSet,
    layout: Layout,
    format_: Format,
) -> None:
    """The tables of a layout; then what is missing, and the ranks under every set of weights."""
    write: Callable[[Grid], None] = {"text": _text, "markdown": _markdown, "latex": _latex}[format_]
    known = {row.method: labels.get(row.method, Method(row.method)) for row in rows}
    ordered = sorted(rows, key=lambda row: _place(row.method, labels))
    if layout in ("all", "paper", "ablation"):
        write(_paper(ordered, known, weights, ablation=layout == "ablation"))
    if layout in ("all", "own"):
        write(_own(ordered, known))
    if layout in ("all", "yaw"):
        write(_by_yaw(ordered, known))
    if layout != "all" or format_ != "text":
        return
    write(_ranks(ordered, known))
    _notes(results, ordered, weights)


def print_differences(a: str, b: str, found: Sequence[Difference]) -> None:
    """B less A, a line a column."""
    table = new_table(
        f"{b} less {a}, over the videos that both have",
        *("", a, b, "difference", "95 % interval", "n", "higher", "lower"),
    )
    for one in found:
        name = "Total" if one.column == TOTAL else label(one.column)
        places = 2 if one.column == TOTAL else digits(one.column)
        if one.difference is None:
            if one.column == TOTAL:
                table.add_row(name, *("–",) * 4, f"{one.n}", "", "")
            continue
        low_high = "–"
        if one.interval is not None:
            low_high = f"[{one.interval.low:+.{places}f}, {one.interval.high:+.{places}f}]"
        numbers = ("–" if value is None else f"{value:.{places}f}" for value in (one.a, one.b))
        votes = ("", "") if one.column == TOTAL else (f"{one.higher}", f"{one.lower}")
        table.add_row(name, *numbers, f"{one.difference:+.{places}f}", low_high, f"{one.n}", *votes)
    screen().print(table)


def _place(method: str, labels: Mapping[str, Method]) -> tuple[int, str]:
    """Methods of methods.toml in the order of the file, the others by name."""
    names = list(labels)
    return (names.index(method), "") if method in labels else (len(names), method)


def _paper(
    rows: Sequence[MethodRow], labels: Mapping[str, Method], weights: WeightSet, *, ablation: bool
) -> Grid:
    columns = [TOTAL, *PAPER]
    strict = [NEXUS_STRICT.name, "nexus_mean"]
    columns += [name for name in strict if any(row.cells.get(name, _NONE).n for row in rows)]
    lines: list[list[str | Cell]] = []
    headings: dict[int, str] = {}
    group = ""
    for row in rows:
        about = labels[row.method]
        if about.group != group and not ablation:
            headings[len(lines)] = group = about.group
        name = f"{about.ablation} {about.label}".strip() if ablation else about.label
        cells = [
            row.totals[weights] if column == TOTAL else row.cells.get(column, _NONE)
            for column in columns
        ]
        lines.append([name, *cells])
    heads = ["Total" if column == TOTAL else label(column) for column in columns]
    ways = ["up" if column == TOTAL else better(column) for column in columns]
    best = {
        (place, number + 1)
        for number, way in enumerate(ways)
        for place in _best([line[number + 1] for line in lines], way)
    }
    return Grid(
        f"OpenS2V-Eval, points; Total by {weights}",
        ["method", *heads],
        lines,
        [2] * (len(columns) + 1),
        True,
        best,
        headings,
    )


_NONE = Cell(None, 0, None)


def _own(rows: Sequence[MethodRow], labels: Mapping[str, Method]) -> Grid:
    there = {column for row in rows for column, cell in row.cells.items() if cell.n}
    wanted = [c.name for c in OWN if c.name in there and not c.name.endswith("_true")]
    return _transposed("HarmoView's own figures", rows, labels, wanted)


def _by_yaw(rows: Sequence[MethodRow], labels: Mapping[str, Method]) -> Grid:
    there = {column for row in rows for column, cell in row.cells.items() if cell.n}
    names = [column.name for column in OWN]
    wanted = [f"{name}[{one}]" for name in names for one in BINS if f"{name}[{one}]" in there]
    return _transposed("By |yaw| of the face", rows, labels, wanted)


def _transposed(
    title: str, rows: Sequence[MethodRow], labels: Mapping[str, Method], columns: Sequence[str]
) -> Grid:
    """Figures down, methods across."""
    lines: list[list[str | Cell]] = [
        [label(column), *(row.cells.get(column, _NONE) for row in rows)] for column in columns
    ]
    best = {
        (number, place + 1)
        for number, column in enumerate(columns)
        for place in _best(lines[number][1:], better(column))
    }
    return Grid(
        title,
        ["", *(labels[row.method].label for row in rows)],
        lines,
        [digits(column) for column in columns],
        False,
        best,
        {},
    )


def _ranks(rows: Sequence[MethodRow], labels: Mapping[str, Method]) -> Grid:
    lines: list[list[str | Cell]] = []
    for row in rows:
        cells: list[str | Cell] = [labels[row.method].label]
        for name in WEIGHT_SETS:
            value = row.totals[name].value
            blank = f"– ({100 * row.missing[name]:.0f} % missing)"
            cells.append(blank if value is None else f"{value:.2f} ({row.ranks[name]})")
        lines.append(cells)
    title = "Total and rank under every set of weights"
    return Grid(title, ["method", *WEIGHT_SETS], lines, [0] * 5, True, set(), {})


def _best(cells: Sequence[str | Cell], way: str) -> list[int]:
    """Places of the best values, where several methods have one; less than 0 of a fault is none."""
    values = {
        place: max(0.0, cell.value) if way == "down" else cell.value
        for place, cell in enumerate(cells)
        if isinstance(cell, Cell) and cell.value is not None
    }
    if way == "none" or len(values) < 2:
        return []
    wanted = (max if way == "up" else min)(values.values())
    return [place for place, value in values.items() if value == wanted]


def _notes(results: Results, rows: Sequence[MethodRow], weights: WeightSet) -> None:
    for row in rows:
        if row.missing[weights]:
            names = ", ".join(label(name) for name in row.missing_columns)
            share = 100 * row.missing[weights]
            print(
                f"{row.method}: no Total, {share:.0f} % of its weight is missing ({names})",
                file=sys.stderr,
            )
    failed = {
        (method, why): count
        for (method, _), reasons in results.blank.items()
        for why, count in reasons.items()
        if why.startswith("failed")
    }
    for (method, why), count in sorted(failed.items()):
        print(f"{method}: {count} × {why}", file=sys.stderr)


def _shown(grid: Grid, row: int, column: int, joint: str) -> str:
    cell = grid.rows[row][column]
    if isinstance(cell, str):
        return cell
    if cell.value is None:
        return "–"
    places = grid.digits[column if grid.by_column else row]
    value = f"{cell.value:.{places}f}"
    if cell.interval is None:
        return f"{value}{joint}n {cell.n}"
    short = f"[{cell.interval.low:.{places}f}, {cell.interval.high:.{places}f}]"
    return f"{value}{joint}{short}{joint}n {cell.n}"


def _text(grid: Grid) -> None:
    table = new_table(grid.title, *grid.head)
    for number in range(len(grid.rows)):
        if number in grid.headings:
            table.add_section()
            table.add_row(Text(grid.headings[number], style="italic"))
        cells = []
        for place in range(len(grid.head)):
            cell = text_lines(_shown(grid, number, place, "\n"))
            if (number, place) in grid.best:
                cell.stylize("bold green", 0, len(cell.plain.split("\n")[0]))
            cells.append(cell)
        table.add_row(*cells)
    screen().print(table)


def text_lines(words: str) -> Text:
    """Several lines, each harmless, all but the first dim."""
    first, *rest = words.split("\n")
    found = text(first)
    for line in rest:
        found += Text("\n") + Text(line, style="dim")
    return found


def _markdown(grid: Grid) -> None:
    print(f"\n**{grid.title}**\n")
    print("| " + " | ".join(map(_escaped, grid.head)) + " |")
    print("|---" + "|---:" * (len(grid.head) - 1) + "|")
    for number in range(len(grid.rows)):
        if number in grid.headings:
            print(f"| *{_escaped(grid.headings[number])}* |" + " |" * (len(grid.head) - 1))
        cells = []
        for place in range(len(grid.head)):
            value, *rest = _shown(grid, number, place, "\n").split("\n")
            bold = f"**{value}**" if (number, place) in grid.best else _escaped(value)
            cells.append(" ".join([bold, *rest]))
        print("| " + " | ".join(cells) + " |")


def _escaped(words: str) -> str:
    """Words as a cell of Markdown, where a bar would end it."""
    return words.replace("|", "\\|")


_SPECIAL = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"} | {c: f"{{{c}}}" for c in "[*"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}",
       "°": r"$^\circ$", "−": "$-$", "–": "--", "⋆": r"$^\star$"}
)  # fmt: skip
"""What LaTeX takes for something else; a bracket or star after a row's end would be its option."""


def _latex(grid: Grid) -> None:
    """A tabular for booktabs."""
    width = len(grid.head)
    print(f"% {grid.title}\n\\begin{{tabular}}{{l{'r' * (width - 1)}}}\n\\toprule")
    print(" & ".join(head.translate(_SPECIAL) for head in grid.head) + r" \\" + "\n\\midrule")
    for number in range(len(grid.rows)):
        if number in grid.headings:
            words = grid.headings[number].translate(_SPECIAL)
            print(f"\\multicolumn{{{width}}}{{l}}{{\\textit{{{words}}}}} \\\\")
        cells = []
        for place in range(width):
            shown = _shown(grid, number, place, "\n")
            if isinstance(grid.rows[number][place], Cell):
                shown = shown.replace("-", "−")  # a number's hyphen is a minus sign
            value, *rest = shown.translate(_SPECIAL).split("\n")
            value = f"\\textbf{{{value}}}" if (number, place) in grid.best else value
            small = f" {{\\scriptsize {' '.join(rest)}}}" if rest else ""
            cells.append(value + small)
        print(" & ".join(cells) + r" \\")
    print("\\bottomrule\n\\end{tabular}")
