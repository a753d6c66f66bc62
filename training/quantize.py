"""Frozen weights in 8 or 4 bits: the linear layers of a model's blocks, nearly all that it has."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import torch
from torch import nn

from datapipe.errors import UserError, install
from training.options import QUANTIZERS, Quantize

FAST_FP8 = (8, 9)
"""Compute capability from which a GPU multiplies float8 matrices (Ada, Hopper)."""
NF4_BLOCK = 64
"""Weights that share a scale; on a CPU bitsandbytes 0.50 reads shorter rows wrongly."""


def check_quantize(kind: Quantize, device: torch.device) -> None:
    """Check that this machine can quantise so. Raises UserError, naming what is missing."""
    if kind == "none":
        return
    if importlib.util.find_spec(QUANTIZERS[kind]) is None:
        raise UserError(
            f"--quantize {kind}: the package {QUANTIZERS[kind]} is not installed: "
            + install("quantize")
        )
    if device.type not in ("cuda", "cpu"):
        raise UserError(f"--quantize {kind}: works on cuda and cpu, not on {device.type}")


def multiplies_fp8(device: torch.device) -> bool:
    """Whether a device has products of float8 matrices."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= FAST_FP8


def linear_layers(model: nn.Module, within: str = "blocks.") -> dict[str, nn.Linear]:
    """A model's linear layers with `within` in their names, those under a LoRA but not its own."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and within in name and ".lora_" not in name
    }


def quantize(
    model: nn.Module, kind: Quantize, device: torch.device, *, learns: bool, within: str = "blocks."
) -> None:
    """Quantise linear layers in place, one after the other, on `device`, where they then are.

    A LoRA that only infers is fused before. Embedders, the last norm and the output projection keep
    the model's dtype. Raises UserError for layers that cannot be quantised so.
    """
    for name, layer in linear_layers(model, within).items():
        if kind == "fp8":
            _fp8(layer, device, learns=learns)
        elif kind == "nf4":
            model.set_submodule(name, _nf4(layer, name, device))


def _fp8(layer: nn.Linear, device: torch.device, *, learns: bool) -> None:
    """Hold weights in float8 (e4m3) with a scale for each row, and activations where that is fast.

    A product of float8 has no backward pass, so a learning base computes in its own precision.
    """
    library = importlib.import_module("torchao.quantization")
    config: Any = library.Float8WeightOnlyConfig()
    if multiplies_fp8(device) and not learns and layer.weight.dtype == torch.bfloat16:
        config = library.Float8DynamicActivationFloat8WeightConfig(granularity=library.PerRow())
    library.quantize_(layer, config, device=device)


def _nf4(layer: nn.Linear, name: str, device: torch.device) -> nn.Module:
    """Hold weights in 4 bits (QLoRA's NormalFloat, doubly quantised), and multiply as before."""
    if layer.in_features % NF4_BLOCK:
        raise UserError(
            f"--quantize nf4: {name} has rows of {layer.in_features} weights, not of a "
            f"multiple of {NF4_BLOCK}, which bitsandbytes needs; use fp8"
        )
    library: Any = importlib.import_module("bitsandbytes.nn")
    small = library.Linear4bit(
        layer.in_features, layer.out_features, bias=layer.bias is not None,
        compute_dtype=layer.weight.dtype, quant_type="nf4", device="meta",
    )  # fmt: skip
    # the packed kernel for CPUs has no backward pass, and not every machine has it
    small.support_avx512bf16_for_cpu = False
    weight = layer.weight.detach()
    small.weight = library.Params4bit(weight, requires_grad=False, quant_type="nf4", module=small)
    small.bias = layer.bias
    moved: nn.Module = small.to(device)  # the move quantises
    return moved
