"""The processes of a training run; one process is the case without torch.distributed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import distributed

Item = TypeVar("Item")


def rank() -> int:
    """This process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def processes() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def own(items: Sequence[Item]) -> Sequence[Item]:
    """This process's share."""
    return items[rank() :: processes()]


def wait_for_all() -> None:
    if distributed.is_initialized():
        distributed.barrier()


def mean(value: torch.Tensor) -> float:
    """The mean of a scalar over all processes."""
    if distributed.is_initialized():
        value = value.clone()
        distributed.all_reduce(value)
    return float(value) / processes()


def gathered(item: Item) -> list[Item]:
    """Every process's item, by rank."""
    if not distributed.is_initialized():
        return [item]
    found: list[Item | None] = [None] * processes()
    distributed.all_gather_object(found, item)
    return [one for one in found if one is not None]
