"""Wan's transformer block, able to modulate reference tokens apart and to mask the condition."""

from __future__ import annotations

import torch
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch import Tensor, nn


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

        def modulated(norm: nn.Module, shift: int, scale: int) -> Tensor:
            pieces = zip(
                torch.split(norm(hidden_states.float()), lengths, dim=1), rows, strict=True
            )
            # cast before joining: the sequence is large, and float32 doubles it
            return torch.cat(
                [(x * (1 + row[scale]) + row[shift]).type_as(hidden_states) for x, row in pieces],
                dim=1,
            )

        def gated(update: Tensor, gate: int) -> Tensor:
            pieces = zip(
                torch.split(hidden_states, lengths, dim=1),
                torch.split(update, lengths, dim=1),
                rows,
                strict=True,
            )
            return torch.cat(
                [(x.float() + new * row[gate]).type_as(x) for x, new, row in pieces], dim=1
            )

        attended = self.attn1(modulated(self.norm1, shift=0, scale=1), None, None, rotary_emb)
        hidden_states = gated(attended, gate=2)
        normed = self.norm2(hidden_states.float()).type_as(hidden_states)
        hidden_states = hidden_states + self.attn2(
            normed, encoder_hidden_states, condition_mask, None
        )
        fed = self.ffn(modulated(self.norm3, shift=3, scale=4))
        return gated(fed, gate=5)

    def _rows(self, temb: Tensor) -> tuple[Tensor, ...]:
        """The six modulation rows of the block, each [B, 1 or L, D]."""
        if temb.ndim == 3:
            temb = temb[:, None]
        rows: Tensor = self.scale_shift_table + temb.float()
        return rows.unbind(dim=2)


# diffusers' caches look a block up by its exact class
TransformerBlockRegistry.register(
    HarmoViewBlock,
    TransformerBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=None),
)
