"""What two sets of rules make different, as tables on the terminal or as plain text in a pipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dataset.inspect.diff import Diff
from jobs.console.output import plain

PIPED_WIDTH = 160


def print_diff(a: str, b: str, changed: Sequence[Mapping[str, Any]], diff: Diff) -> None:
    """Print everything."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PIPED_WIDTH)
    console.print(Text(f"A is {plain(a)}, B is {plain(b)}."))
    if not changed:
        console.print("The rules are the same for this run.")
        return
    console.print(_rules(changed))
    console.print(_views(diff))
    console.print(_samples(diff))
    for what, keys in (
        ("only by A", diff.lost_samples),
        ("only by B", diff.gained_samples),
        ("by both, with other views", diff.changed_examples),
    ):
        if keys:
            console.print(Text(f"  packed {what}: {', '.join(map(plain, keys))}"), soft_wrap=True)


def _table(first: str, *columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _rules(changed: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("rule", "A", "B")
    for line in changed:
        table.add_row(*(Text(str(line[name])) for name in ("key", "a", "b")))
    return table


def _views(diff: Diff) -> Table:
    table = _table(
        "views", "pass by A", "by B", "pass → fail", "fail → pass", "packed by A", "by B"
    )
    table.add_column("changed by")
    for yaw, change in sorted(diff.yaws.items()):
        by = change.lost_by + change.gained_from
        table.add_row(
            f"{yaw:+d}°" if yaw else "0°",
            *_numbers(change.passed.a, change.passed.b, change.passed.lost, change.passed.gained),
            *_numbers(change.kept.a, change.kept.b),
            ", ".join(f"{count:,} {reason}" for reason, count in by.most_common()),
        )
    return table


def _samples(diff: Diff) -> Table:
    table = _table("packed", "by A", "by B", "only by A", "only by B", "with other views")
    names = ("a", "b", "lost", "gained")
    kept = [change.kept for change in diff.yaws.values()]
    for what, changes, other in (
        ("samples", [diff.samples], f"{diff.changed_samples:,}"),
        ("identities", [diff.identities], ""),
        ("views", kept, ""),
    ):
        sums = (sum(getattr(change, name) for change in changes) for name in names)
        table.add_row(what, *_numbers(*sums), other)
    return table


def _numbers(*values: int) -> list[str]:
    return [f"{value:,}" for value in values]
