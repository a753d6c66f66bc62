"""What learns: an expert, shared out over the workers, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from harmoview.curriculum import Phase
from harmoview.data.loader import EncodedBatch
from harmoview.flow import bin_names, bin_of
from harmoview.model.context_parallel import sharers
from harmoview.model.new_parts import NEW_PARTS
from harmoview.model.transformer import HarmoViewTransformer3DModel
from harmoview.train.build import build
from harmoview.train.expert_phase import ExpertPhase
from harmoview.train.objective import Draws, loss
from harmoview.train.settings import TrainSettings
from training import parallel
from training.learned import LearnedWeights, learning
from training.optimizer import adamw, rates


class ExpertLearner:
    """One worker's part of an expert, for one phase."""

    def __init__(
        self,
        settings: TrainSettings,
        part: ExpertPhase,
        model: dict[str, Any],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """Loads the base or the model of --init; `model` are settings that follow from the data.

        Raises UserError where there is no such base, or the model does not fit.
        """
        self.device, self.dtype = device, dtype
        self._whole = part.phase.train_set == "full"
        self.model = build(settings, part, {**settings.model_settings(), **model}, device, dtype)
        self._sharers = sharers(self.model)
        parameters = learning(self.model)
        optimizer = adamw(_by_rate(parameters, part.phase), settings.weight_decay)
        schedule = rates(optimizer, settings.schedule, settings.warmup, part.phase.steps)
        self.weights = LearnedWeights(
            parameters, optimizer, schedule, ema=settings.ema, clip=settings.clip
        )

    def step(
        self, batches: Sequence[EncodedBatch], draws: Sequence[Draws], no_text: Tensor
    ) -> dict[str, Any]:
        """Learn from this worker's batches; return the loss and more for the metrics."""
        weights = torch.cat([batch.weight for batch in batches])
        # workers that share a sequence have the same samples, and each its part of their gradients
        weight = parallel.sum_over_all(float(weights.sum()), self.device) / self._sharers
        # gradients are averaged over the workers, which their number here undoes
        scale = parallel.processes() / max(weight, 1.0)
        losses = []
        for number, (batch, drawn) in enumerate(zip(batches, draws, strict=True), 1):
            self._reduce(last=number == len(batches))
            here = batch.to(self.device, self.dtype)
            found = loss(self.model, here, drawn, no_text) * here.weight
            torch.autograd.backward(found.sum() * scale)
            losses.append(found.detach())
        noise = self._by_noise(torch.cat(losses).cpu(), weights, draws)
        mean = sum(one["loss"] * one["samples"] for one in noise.values()) / max(weight, 1.0)
        return {"loss": mean, "noise": noise, **self.weights.step(), "samples": weight}

    def _reduce(self, *, last: bool) -> None:
        """Let workers exchange gradients after the last micro-batch only.

        Where all weights learn, each micro-batch's are reduced at once: to keep them whole until
        the last one would take 4 bytes a parameter of every GPU, 57 GB for an expert of A14B.
        """
        if not self._whole:
            self.model.set_requires_gradient_sync(last)

    def _by_noise(
        self, losses: Tensor, weights: Tensor, draws: Sequence[Draws]
    ) -> dict[str, dict[str, float]]:
        """Return how many samples of all workers had noise of each range, and their mean loss."""
        place = bin_of(torch.cat([one.sigma for one in draws]))
        names = bin_names()
        sums = torch.zeros(2, len(names), dtype=torch.float64)
        sums.index_add_(1, place, torch.stack([weights, losses]).double())
        totals = parallel.sums_over_all(sums, self.device) / self._sharers
        return {
            name: {"samples": float(count), "loss": float(total / count)}
            for name, count, total in zip(names, *totals, strict=True)
            if count
        }

    @contextmanager
    def inference(self) -> Iterator[HarmoViewTransformer3DModel]:
        """Provide the model with its averaged weights, in evaluation mode, without gradients."""
        with self.weights.averaged(), torch.no_grad():
            self.model.eval()
            try:
                yield self.model
            finally:
                self.model.train()
                # FSDP keeps what is outside the blocks gathered for a backward pass, so the next
                # step would start from averaged weights there
                self.model.reshard()


def _by_rate(
    parameters: Mapping[str, nn.Parameter], phase: Phase
) -> Iterator[tuple[float, list[nn.Parameter]]]:
    """Yield the learning rates of a phase with the parameters that have them, Wan's own first."""
    kinds = {"wan": phase.learning_rate, "lora": phase.lora_learning_rate,
             "new": phase.new_parts_learning_rate}  # fmt: skip
    groups: dict[str, list[nn.Parameter]] = {kind: [] for kind in kinds}
    for name, parameter in parameters.items():
        kind = "new" if name in NEW_PARTS else "lora" if ".lora_" in name else "wan"
        groups[kind].append(parameter)
    for kind, group in groups.items():
        if group:
            yield kinds[kind], group
