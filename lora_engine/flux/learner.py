"""The thing that learns: a frozen transformer with a LoRA, its optimiser and averaged weights."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from diffusers.training_utils import EMAModel, cast_training_params

from datapipe.files import Folder
from lora_engine.flux.adapter import AdapterHeader, add_lora, lora_parameters, save_adapter
from lora_engine.flux.base import Base
from lora_engine.flux.flow import Objective
from lora_engine.flux.groups import Group
from lora_engine.flux.prompts import PromptEmbeddings
from lora_engine.flux.quantize import quantize
from lora_engine.flux.reference_kv import ReferenceKV
from lora_engine.flux.settings import TrainSettings
from lora_engine.flux.state import load_state, save_state
from training import parallel
from training.device import best_attention, device_named, use_attention


class Learner:
    """One process's copy; all processes hold the same LoRA, and a base each or one together."""

    def __init__(
        self,
        settings: TrainSettings,
        transformer: Any,
        embeddings: PromptEmbeddings,
        dtype: torch.dtype,
    ) -> None:
        """Put a fresh LoRA on a frozen transformer of that dtype (see `load_transformer`)."""
        self._settings = settings
        self._dtype = dtype
        self.transformer = transformer
        torch.manual_seed(settings.seed)  # the LoRA's A: the same in every process
        add_lora(self.transformer, settings.rank, settings.lora_alpha, settings.targets)
        cast_training_params(self.transformer, dtype=torch.float32)
        if settings.gradient_checkpointing:
            self.transformer.enable_gradient_checkpointing()
        if settings.shard:
            parallel.shard(self.transformer, device_named(settings.device))
        self.parameters = lora_parameters(self.transformer)
        self.reference_kv = ReferenceKV(self.transformer) if settings.reference_kv else None
        device = self.transformer.device
        use_attention(self.transformer, best_attention(device, dtype, learns=True))
        self._optimizer = _optimizer(settings, list(self.parameters.values()))
        self._ema = None
        if settings.ema:
            self._ema = EMAModel(list(self.parameters.values()), decay=settings.ema)
        self._objective: torch.nn.Module = Objective(
            self.transformer, dtype, embeddings, self.reference_kv
        )
        if parallel.processes() > 1 and not settings.shard:
            # Every process has made the same weights, so nothing (24 GB!) is to be broadcast.
            self._objective = torch.nn.parallel.DistributedDataParallel(
                self._objective, init_sync=False
            )

    def step(self, groups: list[Group], step: int) -> dict[str, float]:
        """Learn from this process's groups of step `step` (from 0). Returns loss and more."""
        s = self._settings
        rate = s.learning_rate * min(1.0, (step + 1) / max(1, s.warmup))
        for options in self._optimizer.param_groups:
            options["lr"] = rate
        share = 1 / (len(groups) * s.yaws_per_group)
        total = torch.zeros((), device=self.transformer.device)
        for i, group in enumerate(groups):
            last = i == len(groups) - 1
            with nullcontext() if last else self._no_sync():
                loss = self._objective(group) * share
                loss.backward()
            total += loss.detach()
        if s.shard:
            parallel.average_gradients(self.parameters.values())
        norm = torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), s.clip)
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self._ema is not None:
            self._ema.step(self.parameters.values())
        return {"loss": parallel.mean(total), "grad_norm": float(norm), "learning_rate": rate}

    def _no_sync(self) -> Any:
        if isinstance(self._objective, torch.nn.parallel.DistributedDataParallel):
            return self._objective.no_sync()
        return nullcontext()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block the transformer has the averaged weights, if there are some."""
        if self._ema is None:
            yield
            return
        parameters = list(self.parameters.values())
        self._ema.store(parameters)
        self._ema.copy_to(parameters)
        try:
            yield
        finally:
            self._ema.restore(parameters)

    def save(self, folder: Folder, step: int) -> None:
        """Write the state after `step` steps."""
        save_state(folder, step, self.parameters, self._optimizer, self._ema)

    def load(self, folder: Folder, step: int) -> None:
        """Put the state after `step` steps back. Raises UserError."""
        load_state(folder, step, self.parameters, self._optimizer, self._ema)

    def export(self, folder: Folder, header: AdapterHeader) -> None:
        """Write the adapter: the averaged weights, in the base's precision."""
        with self.averaged():
            save_adapter(folder, self.transformer, header, self._dtype)


def load_transformer(
    settings: TrainSettings, base: Base, device: torch.device, dtype: torch.dtype
) -> Any:
    """The base's transformer, frozen, on its device; in fewer bits if asked for.

    One that is to be shared out stays in the CPU's memory: the device could not hold it whole.
    """
    transformer = FluxTransformer2DModel.from_pretrained(
        base.path / "transformer", dtype=dtype, use_safetensors=True
    )
    where = torch.device("cpu") if settings.shard else device
    quantize(transformer, settings.quantize, where, learns=True)
    return transformer.requires_grad_(False).train()


def _optimizer(
    settings: TrainSettings, parameters: list[torch.nn.Parameter]
) -> torch.optim.Optimizer:
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "adamw8bit":
        library = importlib.import_module("bitsandbytes")  # optional; check() has looked for it
        made: torch.optim.Optimizer = library.optim.AdamW8bit(
            parameters, lr=rate, weight_decay=decay
        )
        return made
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
