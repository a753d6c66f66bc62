"""What both trainers step with: AdamW, and a rate that rises, then stays or falls."""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from training.options import Optimizer, Schedule
from training.parallel import by_kind


def adamw(
    groups: Iterable[tuple[float, Sequence[nn.Parameter]]],
    weight_decay: float,
    kind: Optimizer = "adamw",
) -> torch.optim.Optimizer:
    """AdamW of parameters with their learning rates.

    It is torch's fused one, which makes no copies of what it updates; adamw8bit is bitsandbytes',
    whose moments take a quarter, for parameters that are whole in each process.
    """
    made = [
        {"params": alike, "lr": rate} for rate, group in groups for alike in by_kind(group)
    ]  # fmt: skip
    if kind == "adamw8bit":
        library = importlib.import_module("bitsandbytes")  # optional; the caller has looked
        small: torch.optim.Optimizer = library.optim.AdamW8bit(made, weight_decay=weight_decay)
        return small
    return torch.optim.AdamW(made, weight_decay=weight_decay, fused=True)


def rates(
    optimizer: torch.optim.Optimizer, schedule: Schedule, warmup: int, steps: int
) -> LambdaLR:
    """The schedule of an optimiser's rates over `steps` steps, of which `warmup` rise."""
    return LambdaLR(optimizer, functools.partial(share_of_rate, schedule, warmup, steps))


def share_of_rate(schedule: Schedule, warmup: int, steps: int, step: int) -> float:
    """What of its learning rate step `step`, from 0, has: 0..1, and the first one more than 0."""
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    left = 1 - (step - warmup) / max(1, steps - warmup)
    return max(0.0, left if schedule == "linear" else (1 - math.cos(math.pi * left)) / 2)
