"""Sharing a model out over the workers, in the precision that Wan needs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy

from training import parallel


def shard(
    model: Any, device: torch.device, dtype: torch.dtype, held: Collection[nn.Parameter] = ()
) -> None:
    """Share a model out, a block at a time; with one worker there is one shard.

    What is `held` stays as it is, whole in every worker.

    The model then computes in `dtype` as that of diffusers does in this type, bit for bit. The few
    weights that Wan keeps in float32 (time embedder, modulation tables, affine norms) stay whole in
    every worker. Times and rotations are not rounded: FSDP's casting would turn the time 873.4 into
    872.
    """
    # Wan's forward returns a view; the loss does nothing in place, as the warning asks
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    exact = set(model._keep_in_fp32_modules)
    whole = {p for name, p in model.named_parameters() if not exact.isdisjoint(name.split("."))}
    whole.update(held)
    policy = MixedPrecisionPolicy(dtype, torch.float32, cast_forward_inputs=False)
    parallel.share_out(model, model.blocks, device, whole, policy)
    model.register_forward_pre_hook(_cast_inputs(dtype), with_kwargs=True)


def _cast_inputs(dtype: torch.dtype) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """Return a hook that casts every keyword argument but the time to `dtype`."""

    def cast(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        def moved(name: str, value: Any) -> Any:
            floating = isinstance(value, Tensor) and value.is_floating_point()
            return value.to(dtype) if floating and name != "timestep" else value

        return args, {name: moved(name, value) for name, value in kwargs.items()}

    return cast
