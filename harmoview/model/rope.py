"""Jump-RoPE: rotary positions for reference tokens, before the video and apart from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from torch import Tensor

THETA = 10_000.0
"""The base of Wan's frequencies, as in `WanRotaryPosEmbed`."""


@dataclass(frozen=True, slots=True)
class ReferenceGrid:
    """Where reference tokens are: a time for each view, of `height` x `width` patches."""

    positions: tuple[int, ...]
    height: int
    width: int

    @property
    def tokens(self) -> int:
        """How many tokens there are."""
        return len(self.positions) * self.height * self.width


class JumpRotaryPosEmbed(WanRotaryPosEmbed):  # type: ignore[misc]
    """Wan's table for the video, preceded by the same function at the references' positions.

    The video keeps the times 0..F-1 at which the base model was trained, and references lie at
    negative times. Attention depends on differences of positions only, so nothing else changes.
    """

    def forward(
        self, hidden_states: Tensor, references: ReferenceGrid | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return cosines and sines, each [1, tokens, 1, head_dim], references first.

        One forward makes both, because context parallelism shards what this module returns.
        """
        video: tuple[Tensor, Tensor] = super().forward(hidden_states)
        if references is None:
            return video
        before = self.table(
            references.positions, references.height, references.width, hidden_states.device
        )
        return torch.cat([before[0], video[0]], dim=1), torch.cat([before[1], video[1]], dim=1)

    def table(
        self, times: Sequence[int], height: int, width: int, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Return cosines and sines of the grid `times` x `height` x `width`, in Wan's order."""
        axes = (
            _axis(self.t_dim, torch.tensor(times), device),
            _axis(self.h_dim, torch.arange(height), device),
            _axis(self.w_dim, torch.arange(width), device),
        )
        shape = (len(times), height, width)
        cos, sin = (_grid([axis[k] for axis in axes], shape) for k in (0, 1))
        return cos, sin


def _axis(dim: int, positions: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    # in float64 on the CPU, so that on any device the angles are Wan's own, bit for bit
    cos, sin = get_1d_rotary_pos_embed(
        dim,
        positions.to(torch.float64),
        THETA,
        use_real=True,
        repeat_interleave_real=True,
        freqs_dtype=torch.float64,
    )
    return cos.to(device), sin.to(device)


def _grid(axes: Sequence[Tensor], shape: tuple[int, int, int]) -> Tensor:
    t, h, w = axes
    parts = (t[:, None, None], h[None, :, None], w[None, None, :])
    table = torch.cat([part.expand(*shape, -1) for part in parts], dim=-1)
    return table.reshape(1, -1, 1, table.shape[-1])


def agreement(first: Sequence[int], second: Sequence[int], dim: int = 44) -> float:
    """Measure how alike two bands of positions are in phase; at the same position it is 1.

    It is the mean of cos(offset x frequency) over all pairs and over the `dim / 2` temporal
    frequencies: the factor by which the temporal part of a logit shrinks if query and key have the
    same content with evenly spread energy. `dim` 44 is the temporal share of Wan's heads of 128.
    """
    offsets = torch.tensor(first)[:, None] - torch.tensor(second)[None, :]
    frequencies = THETA ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    return float(torch.cos(offsets.flatten()[:, None] * frequencies).mean())
