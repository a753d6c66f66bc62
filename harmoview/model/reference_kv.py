"""References that attend to one another only, so that their keys and values serve every step.

Then nothing of a reference depends on the video: told the time 0, it meets the same text at every
step of sampling. The first step of a video keeps each block's keys and values of the references,
and the other steps send the video's tokens alone through the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from diffusers.models.attention_dispatch import SeqAllToAllDim, dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch import Tensor

ReferenceAttention = Literal["all", "references"]
"""What reference tokens attend to: every token, as in the paper, or one another."""


def check_reference_attention(value: str, timestep: str, absent_views: str) -> None:
    """Check a choice of `ReferenceAttention`. Raises ValueError for what it does not go with."""
    if value not in get_args(ReferenceAttention):
        raise ValueError(f"reference_attention is all or references, not {value!r}")
    if value == "references" and (timestep != "zero" or absent_views == "sequential"):
        raise ValueError(
            "reference_attention references needs reference_timestep zero, and absent views that "
            "keep their slots"
        )


KeyValue = tuple[Tensor, Tensor]
"""Keys, rotated, and values of the reference tokens in one block, each [B, R, heads, head].

Where processes share the sequence, each keeps all tokens, but its own share of the heads.
"""


@dataclass
class ReferenceCache:
    """Keys and values of one video's references, of every block; empty until the first step."""

    blocks: list[KeyValue] = field(default_factory=list)

    @property
    def filled(self) -> bool:
        """Whether the references need not go through the model any more."""
        return bool(self.blocks)


class ReferencesApart(WanAttnProcessor):  # type: ignore[misc]
    """Wan's self-attention, in which the references that come first see one another only."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
        references: int = 0,
        kept: KeyValue | None = None,
        keep: Callable[[KeyValue], None] | None = None,
    ) -> Tensor:
        """Attend, where the first `references` of the tokens [B, R + L, D] are references.

        With `kept` the tokens are the video's alone, and attend to what was kept, too. `keep` is
        given the references' keys and values. Processes that share the sequence exchange tokens
        for heads before they attend, and back afterwards, as in diffusers' Ulysses.
        """
        assert rotary_emb is not None  # self-attention always has one
        query, key, value = (
            tokens.reshape(*tokens.shape[:2], attn.heads, -1)
            for tokens in (
                attn.norm_q(attn.to_q(hidden_states)),
                attn.norm_k(attn.to_k(hidden_states)),
                attn.to_v(hidden_states),
            )
        )
        query, key = (_rotated(tokens, *rotary_emb) for tokens in (query, key))
        query, key, value = (self._exchanged(tokens, 2, 1) for tokens in (query, key, value))
        if keep is not None:
            keep((key[:, :references].clone(), value[:, :references].clone()))
        parts = []
        if references:
            own = (tokens[:, :references] for tokens in (query, key, value))
            parts.append(self._attend(*own))
            query = query[:, references:]
        if kept is not None:
            key, value = torch.cat([kept[0], key], dim=1), torch.cat([kept[1], value], dim=1)
        parts.append(self._attend(query, key, value))
        attended = self._exchanged(torch.cat(parts, dim=1), 1, 2).flatten(2, 3).type_as(query)
        out: Tensor = attn.to_out[1](attn.to_out[0](attended))
        return out

    def _exchanged(self, tokens: Tensor, scattered: int, gathered: int) -> Tensor:
        """Scatter one dimension of [B, N, heads, head] over the sharers, and gather another."""
        if self._parallel_config is None:
            return tokens
        group = self._parallel_config.context_parallel_config._ulysses_mesh.get_group()
        found: Tensor = SeqAllToAllDim.apply(group, tokens, scattered, gathered)
        return found

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        found: Tensor = dispatch_attention_fn(query, key, value, backend=self._attention_backend)
        return found


def _rotated(tokens: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate tokens [B, N, heads, head] as Wan does."""
    first, second = tokens[..., 0::2], tokens[..., 1::2]
    cosine, sine = cosine[..., 0::2], sine[..., 1::2]
    rotated = torch.stack([first * cosine - second * sine, first * sine + second * cosine], dim=-1)
    return rotated.flatten(-2).type_as(tokens)
