"""The table and the two plots of docs/proof.md, made from the results of `benchmarks.proof`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scipy.stats import t as student

Rows = Sequence[Mapping[str, Any]]

PAGE = Path(__file__).parents[1] / "docs" / "proof.md"
BEGIN, END = "<!-- benchmarks.proof --table: begin -->", "<!-- end -->"
ONE, TWO = (
    {"7 views": ("excess", "7 named"), "1 view": ("excess", "1 named"),
     "none": ("excess", "0 absent"), "1 other": ("excess", "1 absent"),
     "6 others": ("excess", "6 absent"), "named slot": ("attention", "named slot"),
     "shown view": ("attention", "shown view")},
    {"7 views": ("excess", "7 named"), "1 view": ("excess", "1 named"),
     "1 other": ("excess", "1 absent"), "6 others": ("excess", "6 absent"),
     "leak, 7 views": ("leak", "7 named"), "leak, 1 other": ("leak", "1 absent")},
)  # fmt: skip
"""Columns of the tables of one and of two people: a measure, and of how many views, the named one
among them or not."""
PREFIX = "two, "
"""How the names of variants with two people begin."""
CONVERGED = 0.1
"""Excess with seven views below which a training has learned to take the named one."""


class Mean(NamedTuple):
    """A mean over seeds and the half-width of its interval of 95 % by Student's t."""

    value: float
    half: float

    def __str__(self) -> str:
        half = "" if math.isnan(self.half) else f" ± {_short(self.half)}"
        return f"{_short(self.value)}{half}"


def _short(value: float) -> str:
    text = f"{value:.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def mean(values: Sequence[float]) -> Mean:
    """Return the mean with its interval, which a single value does not have."""
    count = len(values)
    middle = sum(values) / count
    if count == 1:
        return Mean(middle, math.nan)
    spread = math.sqrt(sum((value - middle) ** 2 for value in values) / (count - 1))
    return Mean(middle, float(student.ppf(0.975, count - 1)) * spread / math.sqrt(count))


def by_variant(rows: Rows, names: Sequence[str]) -> dict[str, Rows]:
    """Group results, in the order of the names, without variants that have none."""
    groups = {name: [row for row in rows if row["variant"] == name] for name in names}
    return {name: group for name, group in groups.items() if group}


def values(rows: Rows, column: tuple[str, str]) -> list[float]:
    """Return what a column has of each row that measured it."""
    measure, at = column
    return [row[measure][at] for row in rows if at in row[measure]]


def table(groups: Mapping[str, Rows], columns: Mapping[str, tuple[str, str]]) -> str:
    """Make a table: a row for each variant, a mean with its interval for each column."""
    lines = ["| variant | n | learned | " + " | ".join(columns) + " |",
             "|---|---|---|" + "---|" * len(columns)]  # fmt: skip
    for name, rows in groups.items():
        learned = sum(value < CONVERGED for value in values(rows, columns["7 views"]))
        found = [values(rows, column) for column in columns.values()]
        cells = [str(mean(each)) if each else "–" for each in found]
        lines.append(
            f"| {name.removeprefix(PREFIX)} | {len(rows)} | {learned} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def tables(rows: Rows, names: Sequence[str]) -> str:
    """Make the tables of one and of two people."""
    one, two = people(rows, names)
    return f"One person:\n\n{table(one, ONE)}\n\nTwo people:\n\n{table(two, TWO)}"


def people(rows: Rows, names: Sequence[str]) -> tuple[dict[str, Rows], dict[str, Rows]]:
    """Group the results of variants with one person, and of those with two."""
    groups = by_variant(rows, names)
    two = {name: group for name, group in groups.items() if name.startswith(PREFIX)}
    return {name: group for name, group in groups.items() if name not in two}, two


def write(rows: Rows, names: Sequence[str], least: Mapping[str, float]) -> None:
    """Write tables and plots into the page; `least` is the least error by views shown."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    text = f"{before}{BEGIN}\n\n{tables(rows, names)}\n\n{END}{after}"
    PAGE.write_text(text, encoding="utf-8")
    one, two = people(rows, names)
    plot_errors(one, least, PAGE.parent / "pictures" / "proof-errors.png")
    plot_gaps(two, PAGE.parent / "pictures" / "proof-gaps.png")


def plot_errors(groups: Mapping[str, Rows], least: Mapping[str, float], path: Path) -> None:
    """Draw errors by the number of views, with the named one and without, beside the least."""
    plt = _pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    for panel, kind in zip(axes, ("named", "absent"), strict=True):
        places = [at for at in least if at.endswith(kind)]
        counts = [int(at.split()[0]) for at in places]
        for name, rows in groups.items():
            found = [mean([row["error"][at] for row in rows]) for at in places]
            halves = [0.0 if math.isnan(one.half) else one.half for one in found]
            panel.errorbar(counts, [one.value for one in found], halves, label=name,
                           capsize=2, lw=1.2, marker=".")  # fmt: skip
        panel.plot(counts, [least[at] for at in places], "k--", label="least possible")
        panel.set(xlabel="views shown", title=f"the named view is {_WORDS[kind]}")
    axes[0].set(ylabel="error of the clip's code", ylim=(-0.03, 1.3))
    axes[1].legend(frameon=False, fontsize=8, ncols=2)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


_WORDS = {"named": "among them", "absent": "not among them"}


def plot_gaps(groups: Mapping[str, Rows], path: Path) -> None:
    """Draw the wrong person's weight and the excess by gap, where there are several gaps."""
    gaps = {int(name.split()[-1]): rows for name, rows in groups.items() if "gap" in name}
    if len(gaps) < 2:
        return
    plt = _pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for panel, column in zip(axes, (TWO["leak, 7 views"], TWO["7 views"]), strict=True):
        for gap, rows in gaps.items():
            found = values(rows, column)
            place = [gap] * len(found)
            panel.plot(place, found, "o", color="tab:blue", alpha=0.5, ms=5)
            panel.plot(place[0], sum(found) / len(found), "_", color="k", ms=18)
        panel.set(xlabel="gap, positions", xscale="symlog", xticks=[0, 4, 16, 28, 64])
        panel.set_xticklabels(["0", "4", "16", "28", "64"])
        panel.axhline(0, color="grey", lw=0.8)
    axes[0].set(ylabel="weight of the other person", title="crosstalk, all views shown")
    axes[1].set(ylabel="excess error", title="excess, all views shown")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt
