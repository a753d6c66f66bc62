"""Two-pass reference: its keys and values are computed once and serve all views and all steps.

Pass 1 runs the transformer on the reference's tokens alone (no text, t = 0, guidance 1) and keeps
the keys and values of every block after RoPE. Pass 2 runs text and target with these appended. That
is another function than stock Kontext's, where reference tokens attend to text and target and are
modulated by t: an adapter must be trained this way (`AdapterHeader.reference_mode`).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux import _get_qkv_projections

USE = {"reference": "use"}
"""The attention arguments of pass 2."""


class ReferenceAttention:
    """A FluxAttnProcessor that can keep the keys and values of a pass, or append those it kept."""

    _attention_backend = None
    _parallel_config = None

    def __init__(self) -> None:
        self.kept: tuple[torch.Tensor, torch.Tensor] | None = None

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
        reference: Literal["keep", "use"] | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Attend as FluxAttnProcessor does; with `reference` None it is the same function."""
        query, key, value = self._project(attn, hidden_states, encoder_hidden_states)
        if image_rotary_emb is not None:
            query = apply_rotary_emb(query, image_rotary_emb, sequence_dim=1)
            key = apply_rotary_emb(key, image_rotary_emb, sequence_dim=1)
        # checkpointing runs a block again in the backward pass; the tensors of the first run stay,
        # because they carry the graph on which pass 2 was built
        if reference == "keep" and self.kept is None:
            self.kept = (key, value)
        if reference == "use":
            key, value = self._appended(key, value)
        attended: torch.Tensor = dispatch_attention_fn(
            query,
            key,
            value,
            attn_mask=attention_mask,
            backend=self._attention_backend,
            parallel_config=self._parallel_config,
        )
        attended = attended.flatten(2, 3).to(query.dtype)
        if encoder_hidden_states is None:
            return attended
        text = encoder_hidden_states.shape[1]
        context, attended = attended[:, :text], attended[:, text:]
        attended = attn.to_out[1](attn.to_out[0](attended.contiguous()))
        return attended, attn.to_add_out(context.contiguous())

    @staticmethod
    def _project(
        attn: Any, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Project to query, key and value (B, S, heads, dim): of any text first, then image."""
        projected = _get_qkv_projections(attn, hidden_states, encoder_hidden_states)
        query, key, value = (x.unflatten(-1, (-1, attn.head_dim)) for x in projected[:3])
        query, key = attn.norm_q(query), attn.norm_k(key)
        if attn.added_kv_proj_dim is None:
            return query, key, value
        q, k, v = (x.unflatten(-1, (-1, attn.head_dim)) for x in projected[3:])
        return (
            torch.cat([attn.norm_added_q(q), query], dim=1),
            torch.cat([attn.norm_added_k(k), key], dim=1),
            torch.cat([v, value], dim=1),
        )

    def _appended(
        self, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.kept is None:
            raise RuntimeError("the reference has not been through the transformer yet")
        k, v = (x.expand(key.shape[0], -1, -1, -1) for x in self.kept)
        return torch.cat([key, k], dim=1), torch.cat([value, v], dim=1)


class ReferenceKV:
    """The keys and values of one reference at a time, on one transformer."""

    def __init__(self, transformer: Any) -> None:
        """Replaces the attention processors of the transformer."""
        self._transformer = transformer
        self._processors = {name: ReferenceAttention() for name in transformer.attn_processors}
        transformer.set_attn_processor(dict(self._processors))

    def compute(self, tokens: torch.Tensor, ids: torch.Tensor) -> None:
        """Run pass 1 on packed latents (1, S, C) of a reference and their ids (S, 3), slot 1."""
        self.clear()
        config = self._transformer.config
        batch = tokens.shape[0]
        guidance = torch.ones(batch, device=tokens.device) if config.guidance_embeds else None
        self._transformer(
            hidden_states=tokens,
            timestep=tokens.new_zeros(batch),
            guidance=guidance,
            pooled_projections=tokens.new_zeros(batch, config.pooled_projection_dim),
            encoder_hidden_states=tokens.new_zeros(batch, 0, config.joint_attention_dim),
            txt_ids=tokens.new_zeros(0, 3),
            img_ids=ids,
            joint_attention_kwargs={"reference": "keep"},
            return_dict=False,
        )

    def clear(self) -> None:
        """Forget the reference; call it after the backward pass, not before."""
        for processor in self._processors.values():
            processor.kept = None
