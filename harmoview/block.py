"""Wan's transformer block, able to modulate reference tokens apart and to mask the condition."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch import Tensor


class HarmoViewBlock(WanTransformerBlock):  # type: ignore[misc]
    """The same weights as `WanTransformerBlock`; equal to it where the extra inputs are absent."""

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        rotary_emb: tuple[Tensor, Tensor],
        reference_temb: Tensor | None = None,
        reference_tokens: int = 0,
        condition_mask: Tensor | None = None,
    ) -> Tensor:
        """Shapes: hidden_states [B, R + L, D], temb [B, 6, D] or [B, L, 6, D].

        With `reference_temb` [B, 6, D] the first `reference_tokens` tokens take their modulation
        from it: two rows applied by slices, because a row per token costs [B, R + L, 6, D].
        `condition_mask` [B, 1, 1, T] is True where the condition may be attended.
        """
        if reference_temb is None and condition_mask is None:
            out: Tensor = super().forward(hidden_states, encoder_hidden_states, temb, rotary_emb)
            return out
        rows = [self._rows(temb)]
        lengths = [hidden_states.shape[1]]
        if reference_temb is not None:
            rows.insert(0, self._rows(reference_temb))
            lengths = [reference_tokens, lengths[0] - reference_tokens]

        normed = _modulate(self.norm1(hidden_states.float()), lengths, rows, shift=0, scale=1)
        attended = self.attn1(normed.type_as(hidden_states), None, None, rotary_emb)
        hidden_states = _gated(hidden_states, attended, lengths, rows, gate=2)

        normed = self.norm2(hidden_states.float()).type_as(hidden_states)
        hidden_states = hidden_states + self.attn2(
            normed, encoder_hidden_states, condition_mask, None
        )

        normed = _modulate(self.norm3(hidden_states.float()), lengths, rows, shift=3, scale=4)
        fed = self.ffn(normed.type_as(hidden_states)).float()
        return _gated(hidden_states, fed, lengths, rows, gate=5)

    def _rows(self, temb: Tensor) -> tuple[Tensor, ...]:
        """The six modulation rows of the block, each [B, 1 or L, D]."""
        if temb.ndim == 3:
            temb = temb[:, None]
        rows: Tensor = self.scale_shift_table + temb.float()
        return rows.unbind(dim=2)


def _modulate(
    x: Tensor, lengths: list[int], rows: Sequence[tuple[Tensor, ...]], shift: int, scale: int
) -> Tensor:
    parts = torch.split(x, lengths, dim=1)
    done = [part * (1 + row[scale]) + row[shift] for part, row in zip(parts, rows, strict=True)]
    return torch.cat(done, dim=1)


def _gated(
    x: Tensor, update: Tensor, lengths: list[int], rows: Sequence[tuple[Tensor, ...]], gate: int
) -> Tensor:
    pairs = zip(
        torch.split(x, lengths, dim=1), torch.split(update, lengths, dim=1), rows, strict=True
    )
    return torch.cat([part.float() + new * row[gate] for part, new, row in pairs], 1).type_as(x)


# diffusers' caches look a block up by its exact class
TransformerBlockRegistry.register(
    HarmoViewBlock,
    TransformerBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=None),
)
