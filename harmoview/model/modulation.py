"""Noise levels: the modulation of the video's tokens and, if apart, of the references'."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

ReferenceTimestep = Literal["shared", "zero"]
"""The noise level that reference tokens are told: the video's, or 0, which is what they have."""


class Conditions(NamedTuple):
    """What Wan's condition embedder makes of time, text and image features."""

    temb: Tensor
    """For the output, [B, D] or [B, L, D]."""
    video: Tensor
    """For the blocks, [B, 6, D] or [B, L, 6, D]."""
    references: Tensor | None
    """For the blocks, [B, 6, D]; None where references share the video's."""
    text: Tensor
    image: Tensor | None


def embed(
    embedder: Callable[..., Any],
    timestep: Tensor,
    text: Tensor,
    image: Tensor | None,
    kind: ReferenceTimestep,
) -> Conditions:
    """Embed time [B] or [B, L], with one row a sample more where references need their own.

    Shared with per-token times means the largest of them, the level of the noisy frames.
    """
    levels = timestep.flatten()
    apart = kind == "zero" or timestep.ndim == 2
    if apart:
        zero = timestep.new_zeros(len(timestep))
        levels = torch.cat([levels, zero if kind == "zero" else timestep.amax(dim=1)])
    temb, rows, text, image = embedder(levels, text, image)
    count, shape = timestep.numel(), tuple(timestep.shape)
    rows = rows.reshape(len(levels), 6, -1)
    return Conditions(
        temb[:count].reshape(*shape, -1),
        rows[:count].reshape(*shape, 6, rows.shape[-1]),
        rows[count:] if apart else None,
        text,
        image,
    )


def output_rows(table: Tensor, temb: Tensor) -> tuple[Tensor, Tensor]:
    """Shift and scale of the output norm, each [B, 1 or L, D]; `table` is Wan's [1, 2, D]."""
    rows = table.to(temb.device) + temb.reshape(len(temb), -1, 1, temb.shape[-1])
    return rows[:, :, 0], rows[:, :, 1]
