"""What two sets of rules make different, as tables on the terminal or as plain text in a pipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from dataset.inspect.diff import Diff
from jobs.console.output import degrees, new_table, numbers, plain, screen, text


def print_diff(a: str, b: str, changed: Sequence[Mapping[str, Any]], diff: Diff) -> None:
    """Print what `changed` in the rules (key, a, b), and what that does to views and samples."""
    console = screen()
    console.print(text(f"A is {a}, B is {b}."))
    if not changed:
        console.print("The rules are the same for this run.")
        return
    console.print(_rules(changed))
    console.print(_views(diff))
    console.print(_samples(diff))
    if by := diff.windows_lost_by + diff.windows_gained_from:
        said = ", ".join(f"{count:,} {reason}" for reason, count in by.most_common())
        console.print(Text(
            f"  windows: {diff.windows.a:,} pass by A, {diff.windows.b:,} by B; changed by {said}"
        ), soft_wrap=True)  # fmt: skip
    for what, keys in (
        ("only by A", diff.lost_samples),
        ("only by B", diff.gained_samples),
        ("by both, with other views", diff.changed_examples),
    ):
        if keys:
            console.print(Text(f"  packed {what}: {', '.join(map(plain, keys))}"), soft_wrap=True)


def _rules(changed: Sequence[Mapping[str, Any]]) -> Table:
    table = new_table("Rules", "rule", "A", "B")
    for line in changed:
        table.add_row(*(text(line[name]) for name in ("key", "a", "b")))
    return table


def _views(diff: Diff) -> Table:
    columns = ("pass by A", "by B", "lost", "gained", "packed by A", "by B")
    table = new_table("Views by yaw", "yaw", *columns, "changed by", words=["changed by"])
    for yaw, change in sorted(diff.yaws.items()):
        by = change.lost_by + change.gained_from
        table.add_row(
            degrees(yaw),
            *numbers(change.passed.a, change.passed.b, change.passed.lost, change.passed.gained),
            *numbers(change.kept.a, change.kept.b),
            ", ".join(f"{count:,} {reason}" for reason, count in by.most_common()),
        )
    return table


def _samples(diff: Diff) -> Table:
    table = new_table("Packed", "", "by A", "by B", "only by A", "only by B", "with other views")
    names = ("a", "b", "lost", "gained")
    kept = [change.kept for change in diff.yaws.values()]
    for what, changes, other in (
        ("samples", [diff.samples], f"{diff.changed_samples:,}"),
        ("identities", [diff.identities], ""),
        ("… with a window", [diff.trained], ""),
        ("views", kept, ""),
    ):
        sums = (sum(getattr(change, name) for change in changes) for name in names)
        table.add_row(what, *numbers(*sums), other)
    return table
