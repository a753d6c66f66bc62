"""What a training step costs, counted on the meta device: FLOPs, and the memory of each worker.

The real model runs forward and backward there, at full size and without memory: operations are
counted by torch's own counter, and every tensor that is alive by its bytes. Costs grow evenly with
the number of blocks, so two small numbers of blocks tell those of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from harmoview.model.transformer import HarmoViewTransformer3DModel
from harmoview.train.build import set_precision
from harmoview.train.on_meta import Dequantized, LiveBytes, OnMeta
from harmoview.trainable import Lora, TrainSet, add_lora, has_lora, select
from training.options import Quantize, Recompute
from training.quantize import linear_layers
from training.recompute import recompute

BITS = {"fp8": 8.0, "nf4": 4 + 8 / 64 + 32 / (64 * 256)}
"""Of a weight with its share of the scales: of one for a row, which is long, and of two levels."""
FEW, MORE = 2, 3
"""Blocks of the two models that are run."""


@dataclass(frozen=True)
class BatchShape:
    """The sizes of a micro-batch's tensors; all samples of a micro-batch have the same."""

    samples: int
    frames: int
    """Of the video's latents, as are height and width."""
    height: int
    width: int
    people: int
    reference: int
    """The side of a reference's latents."""
    text: int
    """Tokens of a caption."""
    features: int = 0
    """Tokens of a person's features; 0 without MFI."""

    @property
    def video_tokens(self) -> int:
        """Count the tokens of one sample's video; Wan's patches are 2 x 2."""
        return self.frames * (self.height // 2) * (self.width // 2)

    def reference_tokens(self, views: int) -> int:
        """Count the tokens of one sample's references, with that many slots a person."""
        return self.people * views * (self.reference // 2) ** 2

    def inputs(self, config: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Tensor]:
        """Make what the model's forward takes, on meta."""
        views, channels = len(config["yaws"]), config["in_channels"]
        shapes = {
            "hidden_states": (channels, self.frames, self.height, self.width),
            "encoder_hidden_states": (self.text, config["text_dim"]),
            "reference_latents": (self.people, views, channels, self.reference, self.reference),
        }
        if self.features:
            shapes["encoder_hidden_states_image"] = (
                self.people, self.features, config["vit_dim"],
            )  # fmt: skip
        made = {
            name: torch.empty(self.samples, *shape, dtype=dtype, device="meta")
            for name, shape in shapes.items()
        }
        present = torch.ones(self.samples, self.people, views, dtype=torch.bool, device="meta")
        times = torch.empty(self.samples, device="meta")
        return {**made, "reference_mask": present, "timestep": times}


@dataclass(frozen=True)
class BatchCost:
    """The cost of a micro-batch's forward and backward pass."""

    flops: float
    """Without what is computed a second time, as MFU is defined."""
    again: float
    """What is computed a second time in the backward pass."""
    kept: int
    """Bytes that the blocks keep from the forward pass for the backward pass."""
    block: int
    """Bytes beyond these at the peak: of one block at work, and of the model's two ends."""


@dataclass(frozen=True)
class WeightCost:
    """The bytes that the weights and all that goes with them take of each worker."""

    weights: int
    gradients: int
    optimizer: int
    averages: int
    gathered: int
    """Blocks in the precision of the computation, whole while they work, and their gradients."""
    parameters: int
    """How many there are, in all workers together."""


def meta_model(
    config: Mapping[str, Any], train: TrainSet, lora: Lora, dtype: torch.dtype
) -> HarmoViewTransformer3DModel:
    """Return a model on meta in which exactly the parameters of a set learn."""
    with torch.device("meta"):
        own = {name: value for name, value in config.items() if name[0] != "_"}
        model: HarmoViewTransformer3DModel = HarmoViewTransformer3DModel(**own)
        if has_lora(train):
            add_lora(model, lora)
    set_precision(model, torch.float32 if train == "full" else dtype)
    select(model, train)
    model.train()
    return model


def batch_cost(
    config: Mapping[str, Any],
    train: TrainSet,
    lora: Lora,
    shape: BatchShape,
    dtype: torch.dtype,
    *,
    again: Recompute,
    held: Quantize = "none",
) -> BatchCost:
    """Count what a micro-batch costs a model of this config, computing in `dtype`.

    `held` says in how many bits the frozen layers are, each of which is whole while it works.
    """
    further = config["num_layers"] - FEW
    few, more = (_Meta({**config, "num_layers": blocks}, train, lora, shape, dtype, held)
                 for blocks in (FEW, MORE))  # fmt: skip

    def flops(kind: Recompute) -> float:
        first, second = (one.flops(kind) for one in (few, more))
        return float(first + further * (second - first))

    least, bytes_more = (one.most_bytes(again) for one in (few, more))
    kept, once = bytes_more - least, flops("none")
    return BatchCost(once, flops(again) - once, kept * config["num_layers"], least - kept * FEW)


class _Meta:
    """A model and a micro-batch on meta, as FSDP gathers its weights."""

    def __init__(
        self,
        config: Mapping[str, Any],
        train: TrainSet,
        lora: Lora,
        shape: BatchShape,
        dtype: torch.dtype,
        held: Quantize,
    ) -> None:
        self.model = meta_model(config, train, lora, dtype)
        exact = set(self.model._keep_in_fp32_modules)
        for name, parameter in self.model.named_parameters():
            if exact.isdisjoint(name.split(".")):
                parameter.data = parameter.data.to(dtype)
            if parameter.requires_grad:  # gradients are counted with the weights
                parameter.register_post_accumulate_grad_hook(_drop_gradient)
        if held != "none":
            for name, layer in linear_layers(self.model).items():
                self.model.set_submodule(name, Dequantized(layer, again=held == "nf4"))
        self.inputs = shape.inputs(config, dtype)

    def step(self) -> None:
        """Run forward and backward."""
        with OnMeta():
            output = self.model(**self.inputs, return_dict=False)[0].float()
        torch.autograd.backward(output.square().mean())

    def flops(self, again: Recompute) -> int:
        """Count the operations."""
        recompute(self.model, again, OnMeta)
        with FlopCounterMode(display=False) as counter:
            self.step()
        return int(counter.get_total_flops())

    def most_bytes(self, again: Recompute) -> int:
        """Return the most bytes that are alive; not counting operations, which keeps tensors."""
        recompute(self.model, again, OnMeta)
        known = (*self.model.parameters(), *self.model.buffers(), *self.inputs.values())
        alive = LiveBytes(known)
        with alive:
            self.step()
        return alive.most


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None


def weight_cost(
    config: Mapping[str, Any],
    train: TrainSet,
    lora: Lora,
    workers: int,
    dtype: torch.dtype,
    *,
    ema: bool,
    held: Quantize = "none",
) -> WeightCost:
    """Count what a model of this config takes of each of the workers that share it.

    What Wan keeps in float32 is whole in each, and so are layers `held` in fewer bits. The
    optimiser is AdamW.
    """
    few, more = (
        _weight_cost(
            meta_model({**config, "num_layers": blocks}, train, lora, dtype),
            workers,
            dtype,
            ema,
            held,
        )
        for blocks in (FEW, MORE)
    )
    further = config["num_layers"] - FEW
    return WeightCost(*(
        first + further * (second - first)
        for first, second in zip(astuple(few), astuple(more), strict=True)
    ))  # fmt: skip


def _weight_cost(
    model: HarmoViewTransformer3DModel,
    workers: int,
    dtype: torch.dtype,
    ema: bool,
    held: Quantize,
) -> WeightCost:
    exact = set(model._keep_in_fp32_modules)
    count = sum(p.numel() for p in model.parameters())
    weights = learned = 0.0
    if held != "none":
        for name, layer in linear_layers(model).items():
            weights += layer.weight.numel() * BITS[held] / 8
            weights += 0 if layer.bias is None else layer.bias.nbytes
            model.set_submodule(name, nn.Identity())
    for name, parameter in model.named_parameters():
        share = 1 / workers if exact.isdisjoint(name.split(".")) else 1
        weights += parameter.numel() * parameter.element_size() * share
        learned += parameter.numel() * 4 * share * parameter.requires_grad
    return WeightCost(
        round(weights), round(learned), round(2 * learned), round(learned) * ema,
        _gathered(model, workers, dtype), count,
    )  # fmt: skip


def _gathered(model: HarmoViewTransformer3DModel, workers: int, dtype: torch.dtype) -> int:
    """Count the bytes of the modules that FSDP2 holds whole at the peak.

    What is outside the blocks stays whole for a step. Of the blocks, one works and, with several
    workers, the next one comes in, in a buffer and out of it; the gradients of one that learns are
    whole in the precision of the computation and once more in float32, to be summed.
    """
    exact = set(model._keep_in_fp32_modules)

    def count(module: nn.Module, *, learns: bool) -> int:
        return sum(
            p.numel()
            for name, p in module.named_parameters()
            if exact.isdisjoint(name.split(".")) and (p.requires_grad or not learns)
        )

    block, blocks = model.blocks[0], len(model.blocks)
    outside = count(model, learns=False) - blocks * count(block, learns=False)
    times = 1 if workers == 1 else 3
    learned = count(block, learns=True) * (dtype.itemsize + 4)
    return (outside + times * count(block, learns=False)) * dtype.itemsize + learned
