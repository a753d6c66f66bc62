"""What learns: a LoRA on a frozen transformer, step by step.

Its objective is rectified flow on the targets, given reference and prompts.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from diffusers.training_utils import cast_training_params

from lora_engine.flux import vae
from lora_engine.flux.adapter import (
    AdapterHeader,
    adapter_bytes,
    adapter_file,
    add_lora,
    keep_input_dtype,
    load_adapter,
)
from lora_engine.flux.base import Base
from lora_engine.flux.groups import Group
from lora_engine.flux.prompts import PromptEmbeddings
from lora_engine.flux.reference_kv import USE, ReferenceKV
from lora_engine.flux.settings import TrainLoraSettings
from training import parallel
from training.device import best_attention, device_named, use_attention
from training.learned import LearnedWeights, learning
from training.optimizer import adamw, rates
from training.quantize import quantize

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


class LoraLearner:
    """The learner of one process: all hold the same LoRA, and each a base or a part of one."""

    def __init__(
        self,
        settings: TrainLoraSettings,
        transformer: Any,
        embeddings: PromptEmbeddings,
        dtype: torch.dtype,
    ) -> None:
        """Puts a LoRA on a frozen transformer of a dtype; see `load_transformer`."""
        self._settings, self._dtype = settings, dtype
        self.transformer = transformer
        torch.manual_seed(settings.seed)  # the LoRA's A must be the same in every process
        if settings.init is None:
            add_lora(self.transformer, settings.rank, settings.lora_alpha, settings.targets)
        else:
            load_adapter(self.transformer, adapter_file(settings.init, "--init"))
        keep_input_dtype(self.transformer)
        cast_training_params(self.transformer, dtype=torch.float32)
        if settings.gradient_checkpointing:
            self.transformer.enable_gradient_checkpointing()
        lora = learning(self.transformer)
        if settings.shard:
            share_out(self.transformer, device_named(settings.device))
        self.reference_kv = ReferenceKV(self.transformer) if settings.reference_kv else None
        kernel = best_attention(self.transformer.device, dtype, learns=True)
        use_attention(self.transformer, kernel)
        optimizer = adamw(
            [(settings.learning_rate, list(lora.values()))],
            settings.weight_decay,
            settings.optimizer,
        )
        schedule = rates(optimizer, settings.schedule, settings.warmup, settings.steps)
        self.weights = LearnedWeights(
            lora, optimizer, schedule, ema=settings.ema, clip=settings.clip
        )
        self._objective = Objective(self.transformer, dtype, embeddings, self.reference_kv)

    def step(self, groups: list[Group]) -> dict[str, float]:
        """Learn from this process's groups of a step; return the loss and more for the metrics."""
        device = self.transformer.device
        share = 1 / (len(groups) * self._settings.yaws_per_group)
        total = torch.zeros((), device=device)
        for group in groups:
            loss = self._objective(group) * share
            torch.autograd.backward(loss)
            total += loss.detach()
        mean = parallel.sum_over_all(float(total), device) / parallel.processes()
        return {"loss": mean, **self.weights.step()}

    def export(self, header: AdapterHeader) -> bytes:
        """Return the adapter's file: the averaged weights, in the base's precision."""
        with self.weights.averaged():
            return adapter_bytes(self.transformer, header, self._dtype)


def load_transformer(
    settings: TrainLoraSettings, base: Base, device: torch.device, dtype: torch.dtype
) -> Any:
    """Load the base's transformer, frozen, in fewer bits if asked for, onto its device.

    One that will be shared out stays in the CPU's memory: the device could not hold it whole.
    """
    transformer = FluxTransformer2DModel.from_pretrained(
        base.path / "transformer", dtype=dtype, use_safetensors=True
    )
    where = torch.device("cpu") if settings.shard else device
    quantize(transformer, settings.quantize, where, learns=True)
    return transformer.to(where).requires_grad_(False).train()


def share_out(transformer: Any, device: torch.device) -> None:
    """Share the frozen base out over the processes; the LoRA stays whole in each.

    The LoRA is small, and left whole, its optimiser, averages, checkpoints and adapter are those
    of a run that shares nothing out.
    """
    blocks = (*transformer.transformer_blocks, *transformer.single_transformer_blocks)
    parallel.share_out(transformer, blocks, device, learning(transformer).values())
