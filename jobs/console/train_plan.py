"""What `harmoview train --plan` says: a step of each kind of clip, memory by part, disk, days."""

from __future__ import annotations

from rich.table import Table

from harmoview.train.plan import GIB, OF_CUDA, RunPlan
from harmoview.train.report import head_lines, result_lines
from jobs.console.output import new_table, numbers, screen, text
from training.device import Card


def print_train_plan(plan: RunPlan, card: Card, mfu: float) -> None:
    """Print what the plan rests on, both tables, and what follows."""
    console = screen()
    for line in head_lines(plan, card, mfu):
        console.print(text(line))
    for table in (_steps(plan, card, mfu), _memory(plan)):
        console.print(table)
    for line in result_lines(plan, card, mfu):
        console.print(text(line))


def _steps(plan: RunPlan, card: Card, mfu: float) -> Table:
    title = "A step, and what it takes of a GPU"
    columns = ("video tokens", "reference tokens", "PFLOP each", "again", "s a step", "GiB")
    table = new_table(title, "clips of", *["clips"] * plan.known, *columns)
    for group in plan.groups:
        train = plan.train_sets[-1]
        flops, again = plan.flops(train, group), plan.cost(train, group).again
        table.add_row(
            str(group),
            *numbers(*[group.samples] * plan.known),
            *numbers(group.shape.video_tokens),
            *numbers(group.shape.reference_tokens(len(plan.config["yaws"]))),
            f"{flops / plan.settings.batch / 1e15:.3g}",
            f"{again / plan.settings.micro_batch / 1e15:.3g}",
            f"{flops / (mfu * card.flops * plan.workers):.1f}",
            f"{(plan.memory(group).total + OF_CUDA) / GIB:.1f}",
        )
    return table


def _memory(plan: RunPlan) -> Table:
    parts = {**plan.memory(plan.largest).parts(), "CUDA (assumed)": OF_CUDA}
    table = new_table(f"Memory of a GPU at {plan.largest}", "", "GiB")
    for name, size in parts.items():
        table.add_row(name, f"{size / GIB:.1f}")
    return table
