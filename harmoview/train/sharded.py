"""A model shared out over the workers by FSDP2, in the precision that Wan needs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from training import parallel


def shard(model: Any, device: torch.device, dtype: torch.dtype) -> None:
    """FSDP2 over all workers, a group a block; one worker is the case of one shard.

    It then computes in `dtype` as diffusers' own model of that type does, bit for bit. The few
    weights that Wan keeps in float32 (time embedder, modulation tables, affine norms) stay whole
    in every worker, and times and rotations are not rounded: FSDP's own casting would turn the
    time 873.4 into 872. Gradients of the whole weights are for `average` to reduce.

    The model may be on the CPU: a block at a time goes to the device.
    """
    # Wan's forward returns a view; the loss works out of place, as the warning asks
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    exact = set(model._keep_in_fp32_modules)
    whole = {p for name, p in model.named_parameters() if not exact.isdisjoint(name.split("."))}
    mesh = init_device_mesh(device.type, (parallel.processes(),))
    policy = MixedPrecisionPolicy(dtype, torch.float32, cast_forward_inputs=False)
    for module in (*model.blocks, model):
        fully_shard(module, mesh=mesh, mp_policy=policy, ignored_params=whole)
    for parameter in whole:  # FSDP moves its own only
        parameter.data = parameter.data.to(device)
    model.register_forward_pre_hook(_cast_inputs(dtype), with_kwargs=True)


def _cast_inputs(dtype: torch.dtype) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """A hook that brings every keyword argument but the time to the type of the computation."""

    def cast(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        def moved(name: str, value: Any) -> Any:
            floating = isinstance(value, Tensor) and value.is_floating_point()
            return value.to(dtype) if floating and name != "timestep" else value

        return args, {name: moved(name, value) for name, value in kwargs.items()}

    return cast


def parts(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """The parameters that are shared out, and those that are whole, where there are some.

    Torch's operations on lists of tensors take one kind.
    """
    found: dict[bool, list[nn.Parameter]] = {}
    for parameter in parameters:
        found.setdefault(isinstance(parameter, DTensor), []).append(parameter)
    return list(found.values())


def average(parameters: Sequence[nn.Parameter]) -> None:
    """Replace the gradients of whole parameters by their means over all workers, as FSDP did with
    the others."""
    whole = [p for p in parameters if not isinstance(p, DTensor)]
    if whole:
        parallel.average_gradients(whole)


@torch.no_grad()
def clip(parameters: Sequence[nn.Parameter], most: float) -> float:
    """Scale the gradients to a norm of at most `most`; the norm before."""
    norms = []
    for part in parts(parameters):
        norm: Any = nn.utils.get_total_norm([p.grad for p in part if p.grad is not None])
        norms.append(norm.full_tensor() if isinstance(norm, DTensor) else norm)
    total = torch.linalg.vector_norm(torch.stack(norms))
    for part in parts(parameters):
        nn.utils.clip_grads_with_norm_(part, most, total)
    return float(total)


def sum_over_workers(value: float, device: torch.device) -> float:
    """The sum of every worker's number."""
    total = torch.tensor(value, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(total)
    return float(total)
