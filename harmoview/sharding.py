"""Which piece of the sequence a rank has under diffusers' context parallelism."""

from __future__ import annotations

from typing import Any

import torch


def context_parallel(model: Any) -> Any:
    """The model's `ContextParallelConfig`, or None where the sequence is whole."""
    parallel = model._parallel_config
    return None if parallel is None else parallel.context_parallel_config


def local_part(model: Any, first: int, tokens: int) -> int:
    """How many of the `first` tokens of a sequence of `tokens` this rank works on."""
    parallel = context_parallel(model)
    if parallel is None:
        return first
    mesh = parallel._flattened_mesh
    rank: int = torch.distributed.get_rank(mesh.get_group())
    ranks: int = mesh.size()
    size, longer = divmod(tokens, ranks)  # as torch.tensor_split, which the hooks use
    start = rank * size + min(rank, longer)
    return min(max(first - start, 0), size + (rank < longer))
