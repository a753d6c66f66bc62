"""A plan as tables on the terminal, or as plain text in a pipe."""

from __future__ import annotations

from collections.abc import Callable

from rich.table import Table

from dataset.plan.intervals import LEVEL, Estimate
from dataset.plan.plan import CorpusPlan
from jobs.console.output import degrees, new_table, number, screen, text

Show = Callable[[float], str]


def print_plan(plan: CorpusPlan) -> None:
    """Print every table that has rows, then what to know of them."""
    console = screen()
    whole = "all of them" if plan.sample == plan.videos else f"drawn from {plan.videos:,}"
    console.print(
        f"Pilot of {plan.sample:,} videos, {whole}. Each interval holds with {LEVEL:.0%}."
    )
    for made in (_counts(plan), _yaws(plan), _work(plan), _money(plan)):
        if made.row_count:
            console.print(made)
    for line in _notes(plan):
        console.print(line)


def _counts(plan: CorpusPlan) -> Table:
    made = new_table("The whole corpus", "", "estimate", "from", "to", "in the pilot")
    made.add_row("videos", f"{plan.videos:,}", "", "", f"{plan.sample:,}")
    for outcome, reason, seen, count in plan.outcomes:
        name = text(f"  {outcome}: {reason}")
        made.add_row(name, *_cells(count, number), f"{seen:,}")
    for title, count in (
        ("candidates", plan.candidates),
        ("  identities", plan.identities),
        ("  left out by the rules", plan.left_out),
        ("samples packed", plan.packed),
        ("  identities", plan.packed_identities),
    ):
        pilot = number(count.value * plan.sample / plan.videos)
        made.add_row(title, *_cells(count, number), pilot)
    return made


def _yaws(plan: CorpusPlan) -> Table:
    columns = ("yield", "from", "to", "packed", "from", "to")
    any_real = any(found.real.value for found in plan.yaws)
    more = ("real", "from", "to") if any_real else ()
    made = new_table("Views by yaw", "yaw", *columns, *more)
    for found in plan.yaws:
        share = [*_cells(found.share, "{:.0%}".format)] if found.share else ["–"] * 3
        real = _cells(found.real, number) if any_real else ()
        made.add_row(degrees(found.yaw), *share, *_cells(found.packed, number), *real)
    return made


def _work(plan: CorpusPlan) -> Table:
    rows = []
    for stage in plan.stages:
        unit = "GPU" if stage.gpus else "CPU"
        timed = f"{stage.timed:,} timed of {stage.videos:,}"
        hours = stage.hours * (stage.gpus or 1.0)
        rows.append((f"{stage.stage}, {unit} hours", *_cells(hours, _round), timed))
    whole = [("CPU hours in all", plan.cpu_hours, _round)]
    if any(stage.gpus for stage in plan.stages):
        whole.append(("GPU hours in all", plan.gpu_hours, _round))
    whole += [
        ("candidates, GB", plan.candidate_bytes * 1e-9, _round),
        ("shards with clips, GB", plan.shard_bytes * 1e-9, _round),
        ("shards", plan.shards, number),
    ]
    made = new_table("Work and storage", "", "estimate", "from", "to", "in the pilot")
    for row in rows + [(name, *_cells(found, show), "") for name, found, show in whole]:
        made.add_row(*row)
    return made


def _money(plan: CorpusPlan) -> Table:
    made = new_table("Time and money", "", "estimate", "from", "to")
    held = plan.wall_hours is not None
    if plan.wall_hours is not None:
        bound = (plan.bound_by or "").upper().rstrip("S")
        made.add_row(f"hours, bound by the {bound}s", *_cells(plan.wall_hours, _round))
    for name, found in plan.money.items():
        count = getattr(plan.cluster, name, None)
        text = {
            "compute": "GPUs and CPUs",
            "storage_month": "storage, a month",
        }.get(
            name, f"{count:g} {name[:-1].upper()}s" if held and count else name[:-1].upper() + "s"
        )
        made.add_row(f"cost of {text}", *_cells(found, _price))
    return made


def _notes(plan: CorpusPlan) -> list[str]:
    notes = []
    if any(e.high is None for e in (plan.shard_bytes, plan.cpu_hours, plan.gpu_hours)):
        notes.append(
            "?: no bound, as one video of the pilot at most got that far; take more --samples."
        )
    cold = [stage.stage for stage in plan.stages if stage.cold]
    if cold:
        notes.append(
            f"{', '.join(cold)}: first samples of workers count, so hours may be too long; take "
            "more --samples, or fewer --workers."
        )
    on_gpu = any(stage.gpus for stage in plan.stages if stage.stage == "synthesize")
    unit = "GPU" if on_gpu else "CPU"
    if plan.accepted_per_second is not None:
        rate = _round(plan.accepted_per_second)
        notes.append(f"{rate} accepted views per {unit}-second of synthesize in the pilot.")
    if plan.frontal_hours is not None and plan.frontal_hours.value:
        value, low, high = _cells(plan.frontal_hours, _round)
        notes.append(
            f"--frontal reference would save {value} {unit} hours ({low} to {high}): the views at "
            "0 would be the references."
        )
    if plan.wall_hours is not None:
        notes.append(
            "Not in it: starting nodes and loading models, idle workers, lost nodes, packing, "
            "requests to a store and traffic."
        )
    return notes


def _cells(found: Estimate, show: Show) -> tuple[str, str, str]:
    high = "?" if found.high is None else show(found.high)
    return show(found.value), show(found.low), high


def _price(value: float) -> str:
    return f"{value:,.2f}" if value >= 1 or not value else f"{value:.3g}"


def _round(value: float) -> str:
    """Three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
