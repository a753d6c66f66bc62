"""The thing that learns: the sharded model, its optimiser, its learning rate, its average."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import Tensor

from harmoview.attention import use_best_attention
from harmoview.data.loader import EncodedBatch
from harmoview.model.new_parts import NEW_PARTS
from harmoview.model.transformer import HarmoViewTransformer3DModel
from harmoview.train.expert_phase import Leg
from harmoview.train.objective import Draws, loss
from harmoview.train.settings import TrainSettings
from harmoview.train.sharded import average, clip, parts, shard, sum_over_workers
from harmoview.trainable import Lora, add_lora, has_lora, select
from harmoview.weights import from_wan
from training import parallel


class Learner:
    """One worker's part of the model, for one leg."""

    def __init__(
        self,
        settings: TrainSettings,
        leg: Leg,
        model: dict[str, Any],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """Load the base; `model` are settings of it that follow from the data. Raises UserError."""
        self._settings, self.device, self.dtype = settings, device, dtype
        self.model = _build(settings, leg, {**settings.model_settings(), **model}, dtype)
        self.names = select(self.model, leg.phase.train)
        use_checkpointing = settings.gradient_checkpointing
        if use_checkpointing or (use_checkpointing is None and device.type == "cuda"):
            self.model.enable_gradient_checkpointing()
        self.model.train()
        use_best_attention(self.model, device, dtype, learns=True)
        shard(self.model, device, dtype)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            [{"params": part} for part in parts(self.parameters)],
            lr=leg.phase.learning_rate,
            weight_decay=settings.weight_decay,
        )
        self.schedule = get_scheduler(
            settings.schedule,
            self.optimizer,
            num_warmup_steps=settings.warmup,
            num_training_steps=leg.phase.steps,
        )
        self.ema = EMAModel(self.parameters, decay=settings.ema) if settings.ema else None

    def step(
        self, batches: Sequence[EncodedBatch], draws: Sequence[Draws], no_text: Tensor
    ) -> dict[str, float]:
        """One optimiser step on this worker's batches. Returns the loss and more."""
        weight = sum_over_workers(sum(float(batch.weight.sum()) for batch in batches), self.device)
        # the workers' gradients are averaged, hence their number here
        scale = parallel.processes() / max(weight, 1.0)
        total = 0.0
        for batch, drawn in zip(batches, draws, strict=True):
            here = batch.to(self.device, self.dtype)
            losses = loss(self.model, here, drawn, no_text) * here.weight
            torch.autograd.backward(losses.sum() * scale)
            total += float(losses.detach().sum())
        average(self.parameters)
        norm = clip(self.parameters, self._settings.clip)
        rate = self.schedule.get_last_lr()[0]
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.step(self.parameters)
        mean = sum_over_workers(total, self.device) / max(weight, 1.0)
        return {"loss": mean, "grad_norm": norm, "lr": rate, "samples": weight}

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block the model has its averaged weights, if there are some."""
        if self.ema is None:
            yield
            return
        self._swap(self.ema)
        try:
            yield
        finally:
            self._swap(self.ema)

    @contextmanager
    def inference(self) -> Iterator[HarmoViewTransformer3DModel]:
        """The model with its averaged weights, in evaluation mode, without gradients."""
        with self.averaged(), torch.no_grad():
            self.model.eval()
            try:
                yield self.model
            finally:
                self.model.train()
                # FSDP keeps what is outside the blocks gathered for a backward pass; the next
                # step would go on from the averaged weights there
                self.model.reshard()

    @torch.no_grad()
    def _swap(self, ema: EMAModel) -> None:
        for parameter, shadow in zip(self.parameters, ema.shadow_params, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(shadow)
            shadow.copy_(kept)


def _build(
    settings: TrainSettings, leg: Leg, model: dict[str, Any], dtype: torch.dtype
) -> HarmoViewTransformer3DModel:
    full = leg.phase.train == "full"
    # what learns is float32; a frozen base has the precision of the computation
    built = from_wan(
        settings.base,
        subfolder=leg.model,
        dtype=torch.float32 if full else dtype,
        seed=settings.seed,
        **model,
    )
    if not full:
        if has_lora(leg.phase.train):
            add_lora(built, Lora(settings.rank, settings.rank, settings.seed))
        for name, parameter in built.named_parameters():
            if name in NEW_PARTS:
                parameter.data = parameter.data.float()
    return built
