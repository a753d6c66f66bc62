"""The objective of training: rectified flow on the targets, given reference and prompts."""

from __future__ import annotations

from typing import Any

import torch

from lora_engine.flux import vae
from lora_engine.flux.groups import Group
from lora_engine.flux.prompts import PromptEmbeddings
from lora_engine.flux.reference_kv import USE, ReferenceKV

GUIDANCE = 1.0
"""Guidance in training: the guidance-distilled model is trained at 1 and sampled at 2.5."""


class Objective:
    """Computes the squared error of a group with one transformer."""

    def __init__(
        self,
        transformer: Any,
        dtype: torch.dtype,
        embeddings: PromptEmbeddings,
        reference_kv: ReferenceKV | None,
    ) -> None:
        """Takes what is on the device already; `reference_kv` belongs to the transformer.

        `dtype` is that of the frozen base, in which it computes; the LoRA may have a finer one.
        """
        self.transformer = transformer
        self._dtype = dtype
        self._embeddings = embeddings
        self._reference_kv = reference_kv

    def __call__(self, group: Group) -> torch.Tensor:
        """Return the sum over the targets of their mean squared errors, a scalar."""
        device, dtype = self.transformer.device, self._dtype
        target, noise = group.targets.to(device), group.noise.to(device)
        sigma = group.sigmas.to(device)[:, None, None]
        noisy = (1 - sigma) * target + sigma * noise
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            predicted = self._predict(
                noisy.to(dtype), group.sigmas.to(device, dtype), group.reference.to(device, dtype),
                group.draw.yaws,
            )  # fmt: skip
        error = (predicted.float() - (noise - target)).square()
        return error.mean(dim=(1, 2)).sum()

    def _predict(
        self,
        noisy: torch.Tensor,
        sigmas: torch.Tensor,
        reference: torch.Tensor,
        yaws: tuple[int, ...],
    ) -> torch.Tensor:
        """Predict the velocity (n, S, C) at each noisy target."""
        batch, length, _ = noisy.shape
        side = round(length**0.5)
        ids, extra = vae.position_ids(side, 0, noisy), None
        reference_ids = vae.position_ids(round(reference.shape[1] ** 0.5), 1, noisy)
        tokens = noisy
        if self._reference_kv is None:
            tokens = torch.cat([noisy, reference.expand(batch, -1, -1)], dim=1)
            ids = torch.cat([ids, reference_ids])
        else:
            self._reference_kv.compute(reference, reference_ids)
            extra = USE
        text, pooled = self._embeddings.batch(yaws)
        guidance = None
        if self.transformer.config.guidance_embeds:
            guidance = torch.full((batch,), GUIDANCE, device=noisy.device)
        predicted: torch.Tensor = self.transformer(
            hidden_states=tokens,
            timestep=sigmas,
            guidance=guidance,
            pooled_projections=pooled,
            encoder_hidden_states=text,
            txt_ids=noisy.new_zeros(text.shape[1], 3),
            img_ids=ids,
            joint_attention_kwargs=extra,
            return_dict=False,
        )[0]
        return predicted[:, :length]
