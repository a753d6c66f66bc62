"""The processes of a training run; one process is the case without torch.distributed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.utils import parameters_to_vector, vector_to_parameters

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


def shard(transformer: Any, device: torch.device) -> None:
    """Share the frozen weights out over the processes (FSDP2), a block at a time.

    Weights that learn stay whole in every process: they are few, and optimiser, averages,
    checkpoints and adapter are then those of a run that is not shared out.
    """
    learned = {p for p in transformer.parameters() if p.requires_grad}
    mesh = init_device_mesh(device.type, (processes(),))
    blocks = (*transformer.transformer_blocks, *transformer.single_transformer_blocks)
    for module in (*blocks, transformer):
        fully_shard(module, mesh=mesh, ignored_params=learned)
    transformer.to(device)


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace every gradient by its mean over all processes."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    total = parameters_to_vector(gradients)
    distributed.all_reduce(total)
    vector_to_parameters(total / processes(), gradients)
