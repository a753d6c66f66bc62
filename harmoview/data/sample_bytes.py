"""The bytes of one encoded sample, a small tar, taken apart where they lie."""

from __future__ import annotations

import io
import json
import math
import tarfile

import torch
from torch import Tensor

from datapipe.tar import TarReader

HEAD = 16 << 10
"""Bytes that hold the first member's header, with the extended one that a long name needs."""
DTYPES = {
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "BOOL": torch.bool,
}
"""The types that `harmoview encode` writes, as safetensors spells them."""


def tensors_of(sample: Tensor) -> dict[str, Tensor]:
    """Return the tensors in the bytes of a sample, uint8 [bytes], with which they share memory.

    `load` of safetensors itself copies what it reads, and it takes `bytes`, which would be another
    copy. Raises ValueError for anything that `harmoview encode` does not write.
    """
    try:
        first = next(iter(TarReader(io.BytesIO(_bytes(sample, 0, HEAD)))), None)
        if first is None or not first.name.endswith(".safetensors"):
            raise ValueError("the first member holds no tensors")
        start, end = first.begin, first.begin + first.size
        if end > len(sample):
            raise ValueError("the tensors are cut off")
        body = start + 8 + int.from_bytes(_bytes(sample, start, start + 8), "little")
        header = json.loads(_bytes(sample, start + 8, min(body, end)))
        header.pop("__metadata__", None)
        return {name: _tensor(sample, body, end, **about) for name, about in header.items()}
    except (tarfile.TarError, KeyError, TypeError, AttributeError) as wrong:
        raise ValueError(f"it is no encoded sample: {wrong!r}") from wrong


def description_of(sample: Tensor) -> dict[str, str]:
    """Return the JSON beside the tensors. Raises ValueError where there is none."""
    try:
        reader = TarReader(io.BytesIO(_bytes(sample, 0, len(sample))))
        for member in reader:
            if member.name.endswith(".json"):
                found: dict[str, str] = json.loads(reader.read())
                return found
    except tarfile.TarError as wrong:
        raise ValueError(f"it is no encoded sample: {wrong!r}") from wrong
    raise ValueError("it has no description")


def _tensor(
    sample: Tensor, body: int, end: int, dtype: str, shape: list[int], data_offsets: list[int]
) -> Tensor:
    kind, count = DTYPES[dtype], math.prod(shape)
    first, last = (body + offset for offset in data_offsets)
    inside = body <= first <= last <= end and min(shape, default=0) >= 0
    if not inside or last - first != count * kind.itemsize or first % kind.itemsize:
        raise ValueError("the tensors are not where their header says")
    return sample[first:last].view(kind).reshape(shape)


def _bytes(sample: Tensor, start: int, end: int) -> bytes:
    found: bytes = sample[start:end].numpy().tobytes()
    return found
