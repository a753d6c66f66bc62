"""What a run is about to do, in words: its samples, the noise that they get, what it will take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from harmoview.data.encoded import EncodedShards
from harmoview.encode.shard import NO_TEXT
from harmoview.flow import BINS, bin_names
from harmoview.load import boundary_of
from harmoview.train.expert_phase import expert_phases
from harmoview.train.objective import tokens_of
from harmoview.train.plan import GIB, MARGINAL, PlannedGroup, RunPlan
from harmoview.train.settings import TrainSettings
from training.device import Card
from training.options import Recompute

WORDS: dict[Recompute, str] = {
    "none": "nothing", "all_but_attention": "all but self-attention", "all": "every block",
}  # fmt: skip


def describe(settings: TrainSettings, data: EncodedShards) -> list[str]:
    """Return lines on the samples by size, people, views and captions, and on the noise levels."""
    return [*_samples(data), *_noise(settings, data)]


def _samples(data: EncodedShards) -> Iterator[str]:
    columns = {name: data.column(name).tolist() for name in ("identities", "views", "caption")}
    total = len(data.keys)
    one = sum(views == 1 for views in columns["views"])
    silent = sum(caption == NO_TEXT for caption in columns["caption"])
    yield (
        f"{total:,} samples: {total - one:,} with views of all their people, {one:,} with the "
        f"frontal one alone; {silent:,} without a caption"
    )
    groups = Counter(zip(_sizes(data), columns["identities"], strict=True))
    for ((frames, height, width), people), count in sorted(groups.items()):
        yield (
            f"  {frames} frames of {width}x{height}, {people} "
            f"{'person' if people == 1 else 'people'}: {count:,} samples"
        )


def _noise(settings: TrainSettings, data: EncodedShards) -> Iterator[str]:
    """Yield a line for each different distribution, which expert, phase and size decide."""
    yield "noise levels, share of the samples by sigma:"
    seen: set[str] = set()
    for part in expert_phases(settings, boundary_of(settings.base)):
        for frames, height, width in sorted(set(_sizes(data))):
            noise = part.noise.at(_tokens(data, frames, height, width))
            shares = [
                f"{name} {noise.share(low, high):.1%}"
                for name, (low, high) in zip(bin_names(), pairwise(BINS), strict=True)
                if noise.low < high and noise.high > low
            ]
            expert = f"{part.expert}-noise expert, " if part.expert else ""
            size = f"{frames} frames of {width}x{height}"
            line = f"  {expert}{size}, shift {noise.shift:.3g}: {', '.join(shares)}"
            if line not in seen:
                yield line
            seen.add(line)


def _sizes(data: EncodedShards) -> list[tuple[int, int, int]]:
    columns = (data.column(name).tolist() for name in ("frames", "height", "width"))
    return list(zip(*columns, strict=True))


def _tokens(data: EncodedShards, frames: int, height: int, width: int) -> int:
    factor = 16 if len(data.example.video) == 48 else 8  # TI2V-5B's VAE, that of the others
    return tokens_of(((frames - 1) // 4 + 1, height // factor, width // factor))


def short_lines(plan: RunPlan, card: Card | None, mfu: float) -> Iterator[str]:
    """Yield what a run says at its start: memory, and with a GPU that is known, time."""
    worst = plan.largest
    need = plan.memory(worst)
    parts = ", ".join(f"{name} {size / GIB:.1f}" for name, size in need.parts().items())
    yield f"memory of a worker, GiB, for {worst}: {need.total / GIB:.1f} ({parts})"
    if card is not None:
        yield _verdict(plan, worst, card)
        yield _days(plan, card, mfu)


def head_lines(plan: RunPlan, card: Card, mfu: float) -> Iterator[str]:
    """Yield what a plan rests on."""
    workers = "1 worker" if plan.workers == 1 else f"{plan.workers} workers"
    yield (
        f"{workers} with {card.name} ({card.memory:g} GiB), {mfu:.0%} of its "
        f"{card.flops / 1e12:.0f} TFLOP/s assumed; {plan.parts[-1].last:,} steps of "
        f"{plan.settings.batch} samples"
    )
    if not plan.known:
        yield "no encoded shards there yet: sizes and features are those of `encode`'s defaults"


def result_lines(plan: RunPlan, card: Card, mfu: float) -> Iterator[str]:
    """Yield what is computed twice, whether the run fits, what it stores, and how long it takes."""
    yield f"the backward pass computes {WORDS[plan.recompute]} a second time (--recompute)"
    yield _verdict(plan, plan.largest, card)
    yield from _stored(plan)
    yield _days(plan, card, mfu)


def _verdict(plan: RunPlan, group: PlannedGroup, card: Card) -> str:
    share = plan.share(group, card)
    told = "fits" if share < MARGINAL else "is marginal" if share < 1 else "does not fit"
    advice = ""
    if share >= MARGINAL:
        advice = ": more --workers, --context-parallel, a smaller --micro-batch or bucket, or "
        advice += "--train-set new_parts_and_lora (with --quantize) take less"
    return (
        f"{group} {told} on {plan.workers} x {card.name}: {share:.0%} of {card.memory:g} GiB"
        f"{advice}"
    )


def _stored(plan: RunPlan) -> Iterator[str]:
    """Yield what the host's memory and the disk must hold beside the data."""
    train = plan.train_sets[-1]
    learned, whole = (
        plan.weights[train].gradients * plan.workers,
        4 * plan.weights[train].parameters,
    )
    exported = (1.5 * whole if train == "full" else learned) / GIB
    yield (
        f"host memory, GiB: {exported:.1f} in the first worker while a model is exported, in "
        "float32 and in the exported precision; weights are read part by part"
    )
    times = 4 if plan.settings.ema else 3
    yield (
        f"disk, GiB: {times * learned / GIB:.1f} a checkpoint, of which {plan.settings.keep} stay, "
        "and one more while it is written"
    )


def _days(plan: RunPlan, card: Card, mfu: float) -> str:
    flops = plan.run_flops()
    seconds = flops / (mfu * card.flops * plan.workers)
    steps = plan.parts[-1].last
    mix = "" if plan.known else ", half of the samples with two people"
    return (
        f"{flops:.3g} FLOP{mix}: at {mfu:.0%} of the peak of {plan.workers} x {card.name} "
        f"{steps / seconds:.3g} steps a second, {seconds / 86400:.1f} days, "
        f"{seconds / 3600 * plan.workers:,.0f} GPU hours"
    )
