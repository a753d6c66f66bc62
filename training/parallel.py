"""The processes of a training run; one process is the case without torch.distributed."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed, nn
from torch.distributed import HashStore  # type: ignore[attr-defined]  # torch hides it
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

Item = TypeVar("Item")
PATIENCE = timedelta(minutes=30)
"""How long processes wait for each other, as on Ray: while one writes a model the others do."""


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """torch.distributed within the block: as it is set up, as torchrun says, or for one process."""
    if distributed.is_initialized():
        yield
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    if distributed.is_torchelastic_launched():
        if device.type == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group(backend, timeout=PATIENCE)
    else:
        distributed.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def launched() -> int:
    """How many processes torchrun has started, this one among them; 1 where it has not."""
    return int(os.environ["WORLD_SIZE"]) if distributed.is_torchelastic_launched() else 1


def is_first() -> bool:
    """Whether this is the process that speaks and writes, known before there is a group."""
    return launched() == 1 or int(os.environ["RANK"]) == 0


def rank() -> int:
    """This process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def processes() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def own_share(items: Sequence[Item]) -> Sequence[Item]:
    """What of the items is this process's to do."""
    return items[rank() :: processes()]


def wait_for_all() -> None:
    if processes() > 1:
        distributed.barrier()


def gather(item: Item) -> list[Item]:
    """Every process's item, by rank."""
    if processes() == 1:
        return [item]
    found: list[Item | None] = [None] * processes()
    distributed.all_gather_object(found, item)
    return cast("list[Item]", found)


def sum_over_all(value: float, device: torch.device) -> float:
    """The sum of every process's number."""
    return float(sums_over_all(torch.tensor(value), device))


def sums_over_all(values: Tensor, device: torch.device) -> Tensor:
    """The sums of every process's numbers, float64 on the CPU."""
    total = values.to(device, torch.float64)
    if processes() > 1:
        distributed.all_reduce(total)
    return total.cpu()


def share_out(
    model: nn.Module,
    blocks: Iterable[nn.Module],
    device: torch.device,
    whole: Collection[nn.Parameter],
    precision: MixedPrecisionPolicy | None = None,
) -> None:
    """Share a model's weights out over the processes (FSDP2), a block at a time.

    The `whole` ones stay so in every process; their gradients are for `average_gradients`. The
    model may be on the CPU: a block at a time goes to the device. On meta it stays there, for
    `to_empty` to give each process memory for its part. Needs torch.distributed.
    """
    mesh = init_device_mesh(device.type, (processes(),))
    policy, ignored = precision or MixedPrecisionPolicy(), set(whole)
    for module in (*blocks, model):
        fully_shard(module, mesh=mesh, mp_policy=policy, ignored_params=ignored)
    for parameter in ignored:  # FSDP moves its own only
        if parameter.device.type not in ("meta", device.type):
            parameter.data = parameter.data.to(device)


def by_kind(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """The parameters that are shared out, and those that are whole, where there are some.

    Torch's operations on lists of tensors take one kind.
    """
    found: dict[bool, list[nn.Parameter]] = {}
    for parameter in parameters:
        found.setdefault(isinstance(parameter, DTensor), []).append(parameter)
    return list(found.values())


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace the gradients of whole parameters by their means over all processes.

    FSDP has done so with those of the parameters that are shared out.
    """
    gradients = [p.grad for p in parameters if p.grad is not None and not isinstance(p, DTensor)]
    if processes() > 1 and gradients:
        total = parameters_to_vector(gradients)
        distributed.all_reduce(total)
        vector_to_parameters(total / processes(), gradients)


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], most: float) -> float:
    """Scale the gradients to a norm of at most `most`; the norm before."""
    kinds, norms = by_kind(parameters), []
    for kind in kinds:
        norm: Any = nn.utils.get_total_norm([p.grad for p in kind if p.grad is not None])
        norms.append(norm.full_tensor() if isinstance(norm, DTensor) else norm)
    total = torch.linalg.vector_norm(torch.stack(norms))
    for kind in kinds:
        nn.utils.clip_grads_with_norm_(kind, most, total)
    return float(total)
