"""Wan's block with a modulation of its own for reference tokens, and a mask for the condition.

`embed` makes that modulation: Wan embeds the noise level of the video, and here, where it differs,
that of the references too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch import Tensor, nn

ReferenceTimestep = Literal["shared", "zero"]
"""The noise level that reference tokens are told: the video's, or 0, which is their own."""


class Conditions(NamedTuple):
    """What Wan's condition embedder makes of time, text and image features."""

    temb: Tensor
    """The time for the output, [B, D] or [B, L, D]."""
    video: Tensor
    """The modulation of the video's tokens in the blocks, [B, 6, D] or [B, L, 6, D]."""
    references: Tensor | None
    """That of the reference tokens, [B, 6, D]; None where they share the video's."""
    text: Tensor
    """[B, T, D]."""
    image: Tensor | None
    """[B, identities, N, D]; None without image features."""


def embed(
    embedder: Callable[..., Any],
    timestep: Tensor,
    text: Tensor,
    image: Tensor | None,
    kind: ReferenceTimestep,
) -> Conditions:
    """Embed the time [B] or [B, L], and for references that need their own, one more a sample.

    References that share the time of tokens with different times take the largest of them, which is
    the level of the noisy frames.
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
    """Return shift and scale of the output norm, each [B, 1 or L, D], of Wan's table [1, 2, D]."""
    rows = table.to(temb.device) + temb.reshape(len(temb), -1, 1, temb.shape[-1])
    return rows[:, :, 0], rows[:, :, 1]


class HarmoViewBlock(WanTransformerBlock):  # type: ignore[misc]
    """A `WanTransformerBlock` with the same weights, equal to it without the extra inputs."""

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        rotary_emb: tuple[Tensor, Tensor],
        reference_temb: Tensor | None = None,
        reference_tokens: int = 0,
        condition_mask: Tensor | None = None,
        attention: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """Run the block on hidden_states [B, R + L, D], with temb [B, 6, D] or [B, L, 6, D].

        The first `reference_tokens` tokens take their modulation from `reference_temb` [B, 6, D],
        if it is given. The two are applied to slices, because a row for every token would take
        [B, R + L, 6, D]. `condition_mask` [B, 1, 1, T] is True where the condition may be attended.
        `attention` is for the processor of the self-attention, if it is not Wan's.
        """
        if reference_temb is None and condition_mask is None and attention is None:
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
            # cast before they are joined: the sequence is long, and float32 doubles it
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

        normed = modulated(self.norm1, shift=0, scale=1)
        attended = self.attn1(normed, None, None, rotary_emb, **(attention or {}))
        hidden_states = gated(attended, gate=2)
        normed = self.norm2(hidden_states.float()).type_as(hidden_states)
        hidden_states = hidden_states + self.attn2(
            normed, encoder_hidden_states, condition_mask, None
        )
        fed = self.ffn(modulated(self.norm3, shift=3, scale=4))
        return gated(fed, gate=5)

    def _rows(self, temb: Tensor) -> tuple[Tensor, ...]:
        """Return the six rows of the block's modulation, each [B, 1 or L, D]."""
        if temb.ndim == 3:
            temb = temb[:, None]
        rows: Tensor = self.scale_shift_table + temb.float()
        return rows.unbind(dim=2)


# the caches of diffusers look a block up by its exact class
TransformerBlockRegistry.register(
    HarmoViewBlock,
    TransformerBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=None),
)
