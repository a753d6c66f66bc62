"""Processes that share sequences, by the context parallelism of diffusers, and each one's part."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ContextParallelConfig
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from datapipe.errors import UserError
from training.parallel import processes

GROUPS = "data"
"""The dimension of the mesh along which processes of different groups stand at the same place."""


def share_sequences(model: Any, sharers: int, device: torch.device) -> DeviceMesh:
    """Let each `sharers` neighbouring processes attend together to the sequences that they share.

    Returns the mesh of groups and sharers; with one sharer a sequence stays whole. In training,
    gradients of the weights are then those of a process's own part of a sequence (diffusers'
    Ulysses), which FSDP sums up with those of the other samples. Raises UserError without a GPU,
    and where the sharers cannot have equal parts.
    """
    if sharers > 1:
        _check_parts(model, sharers)
    shape = (processes() // sharers, 1, sharers)
    mesh = init_device_mesh(device.type, shape, mesh_dim_names=(GROUPS, "ring", "ulysses"))
    if sharers > 1:
        model.enable_parallelism(config=ContextParallelConfig(ulysses_degree=sharers, mesh=mesh))
    return mesh


def _check_parts(model: Any, sharers: int) -> None:
    """Raises UserError without a GPU, and where processes cannot have equal parts of sequences."""
    said = f"--context-parallel: {sharers} processes would share each sequence"
    if model.config.num_attention_heads % sharers:
        raise UserError(f"{said}, but do not divide {model.config.num_attention_heads} heads")
    if model.config.get("absent_views") == "sequential":
        raise UserError(
            f"{said}, whose length depends on the views given (absent_views sequential)"
        )
    if not torch.accelerator.device_count():  # diffusers divides by it
        raise UserError(f"{said}, for which they need GPUs")


def config_of(model: Any) -> Any:
    """Return the model's `ContextParallelConfig`, or None where the sequence is whole."""
    parallel = model._parallel_config
    return None if parallel is None else parallel.context_parallel_config


def sharers(model: Any) -> int:
    """Count the ranks that share each sample's sequence; 1 where it is whole."""
    parallel = config_of(model)
    return 1 if parallel is None else int(parallel._flattened_mesh.size())


def local_part(model: Any, first: int, tokens: int) -> int:
    """Count those of the `first` tokens, in a sequence of `tokens`, that are this rank's."""
    parallel = config_of(model)
    if parallel is None:
        return first
    mesh = parallel._flattened_mesh
    rank: int = torch.distributed.get_rank(mesh.get_group())
    ranks: int = mesh.size()
    size, longer = divmod(tokens, ranks)  # as torch.tensor_split does, which the hooks use
    start = rank * size + min(rank, longer)
    return min(max(first - start, 0), size + (rank < longer))
