"""Reading checkpoints without the model that they are of."""

from pathlib import Path

import torch
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from training.parallel import process_group


def tensors(folder: Path, step: int) -> dict[str, torch.Tensor]:
    """Every tensor of checkpoint `step`, by its path."""
    path = folder / f"{step:08d}"
    there = FileSystemReader(path).read_metadata().state_dict_metadata
    found = {
        name: torch.empty(about.size, dtype=about.properties.dtype)
        for name, about in there.items()
        if isinstance(about, TensorStorageMetadata)
    }
    with process_group(torch.device("cpu")):
        load(found, checkpoint_id=path)
    return found
