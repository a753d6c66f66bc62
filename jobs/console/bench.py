"""The benchmark's tables and what a human study says, on a terminal or as plain text in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

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
    counted = (("error", errors), ("warning", len(problems) - errors))
    print(", ".join(f"{count} {what}{'s' * (count != 1)}" for what, count in counted))


def print_study(found: Mapping[str, Any]) -> None:
    """Raters and their checks; then every axis, with and without those who failed them."""
    console = screen()
    packages = found["packages"]
    console.print(f"{packages['answered']} of {packages['of']} packages are answered")
    for name, (given, of) in found["unfinished"].items():
        console.print(text(f"  {name}: {given} of {of} votes"))
    console.print(_raters(found["raters"]))
    if found["left_share"] is not None:
        share, p = 100 * found["left_share"], found["left_p"]
        console.print(f"left was preferred in {share:.1f} % of the decided votes (p {p:.3f})\n")
    excluded = any(rater["excluded"] for rater in found["raters"])
    for axis, both in found["axes"].items():
        console.print(_axis(f"{axis}: {found['base']} against …", both["all"]))
        if excluded:
            title = f"{axis}, without the raters who failed the checks"
            console.print(_axis(title, both["without_excluded"]))


def _raters(raters: Sequence[Mapping[str, Any]]) -> Any:
    columns = ("votes", "gold right", "repeats alike", "identical same", "s a vote", "excluded")
    table = new_table("Raters", "rater", *columns, words=["excluded"])
    for one in raters:
        table.add_row(
            text(one["name"]),
            str(one["votes"]),
            f"{one['gold'] - one['gold_wrong']} of {one['gold']}",
            f"{one['repeats_alike']} of {one['repeats']}",
            f"{one['identical_same']} of {one['identical']}",
            f"{one['seconds']:.1f}",
            text(one["excluded"]),
        )
    return table


def _axis(title: str, found: Mapping[str, Any]) -> Any:
    columns = (
        *("G", "S", "B", "net %", "win rate", "(G+S)/(B+S)", "G/(G+B)", "p", "p Holm"),
        *("α ordinal", "κ", "agree", "1–1–1", "Elo"),
    )
    table = new_table(title, "opponent", *columns)
    for name, one in found["opponents"].items():
        strength = found["strengths"][name]
        table.add_row(
            text(name),
            *(str(one[grade]) for grade in ("good", "same", "bad")),
            _ranged(one["net"], one["net_interval"], 100, 0),
            _ranged(one["win_rate"], one["win_rate_interval"]),
            _number(one["odds"]),
            _ranged(None, one["decided"]),
            *(f"{one[name]:.4f}" for name in ("p", "p_holm")),
            *(_number(one[name]) for name in ("alpha_ordinal", "kappa", "agreement")),
            str(one["one_of_each"]),
            _ranged(strength["elo"], strength["interval"], digits=0),
        )
    if found["opponents"]:
        n = max(one["n"] for one in found["opponents"].values())
        best = next(one for one in found["opponents"].values() if one["n"] == n)["power"]
        table.caption = (
            f"of {n} cases without ties {best['wins']} wins are the fewest with p under .05 "
            f"(p {best['p']:.4f}; one fewer {best['p_one_fewer']:.4f})"
        )
    return table


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _ranged(
    value: float | None, ends: Sequence[float] | None, factor: float = 1, digits: int = 2
) -> str:
    """A number and its interval; either may be missing."""
    shown = "" if value is None else f"{factor * value:.{digits}f}"
    if ends is None:
        return shown or "–"
    low, high = (factor * end for end in ends)
    return f"{shown} [{low:.{digits}f}, {high:.{digits}f}]".strip()
