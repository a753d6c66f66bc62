"""Which part of the sequence a rank works on under the context parallelism of diffusers."""

from __future__ import annotations

from typing import Any

import torch


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
