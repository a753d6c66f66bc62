"""Safetensors files whose bytes depend on their content alone."""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from safetensors.torch import save


def tensor_bytes(tensors: Mapping[str, torch.Tensor], header: Mapping[str, str]) -> bytes:
    """Return a safetensors file of tensors, which are copied to the CPU, and of metadata.

    The library writes metadata in random order. Here the JSON header is sorted, so that equal
    content gives equal bytes and hashes.
    """
    data = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        {"format": "pt", **header},
    )
    end = 8 + int.from_bytes(data[:8], "little")
    text = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[end:]
