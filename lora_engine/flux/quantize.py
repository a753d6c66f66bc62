"""A base in 8 or 4 bits: the linear layers of its blocks, which are nearly all of its weights."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import torch

from datapipe.errors import UserError, install
from lora_engine.flux.settings import QUANTIZERS, SPEEDS, FluxSettings, Quantize

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


def chosen(settings: FluxSettings, device: torch.device, dtype: torch.dtype) -> Quantize:
    """The quantisation asked for, or the speed's: fp8 where it is fast and torchao is there."""
    if settings.quantize is not None:
        return settings.quantize
    wanted = SPEEDS[settings.speed].fp8 and dtype == torch.bfloat16
    there = importlib.util.find_spec(QUANTIZERS["fp8"]) is not None
    return "fp8" if wanted and there and _multiplies_fp8(device) else "none"


def _multiplies_fp8(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= FAST_FP8


def quantize(transformer: Any, kind: Quantize, device: torch.device, *, learns: bool) -> None:
    """Quantise in place, a layer at a time on `device`, and move the transformer there.

    A LoRA that only infers is fused before, one that learns is put on afterwards. Embedders, the
    last norm and the output projection keep the transformer's dtype. Raises UserError for layers
    that cannot be quantised so.
    """
    if kind == "fp8":
        _fp8(transformer, device, learns=learns)
    elif kind == "nf4":
        _nf4(transformer, device)
    transformer.to(device)


def _wanted(module: torch.nn.Module, name: str) -> bool:
    return isinstance(module, torch.nn.Linear) and "transformer_blocks." in name


def _fp8(transformer: Any, device: torch.device, *, learns: bool) -> None:
    """Hold weights in float8 (e4m3) with a scale for each row, and activations where that is fast.

    A product of float8 has no backward pass, so a learning base computes in its own precision.
    """
    library = importlib.import_module("torchao.quantization")
    config: Any = library.Float8WeightOnlyConfig()
    if _multiplies_fp8(device) and not learns and transformer.dtype == torch.bfloat16:
        config = library.Float8DynamicActivationFloat8WeightConfig(granularity=library.PerRow())
    library.quantize_(transformer, config, filter_fn=_wanted, device=device)


def _nf4(transformer: Any, device: torch.device) -> None:
    """Hold weights in 4 bits (QLoRA's NormalFloat, doubly quantised), and multiply as before."""
    layers = importlib.import_module("bitsandbytes.nn")
    dtype = transformer.dtype
    for name, module in list(transformer.named_modules()):
        if not _wanted(module, name):
            continue
        if module.in_features % NF4_BLOCK:
            raise UserError(
                f"--quantize nf4: {name} has rows of {module.in_features} weights, not of a "
                f"multiple of {NF4_BLOCK}, which bitsandbytes needs; use fp8"
            )
        small = layers.Linear4bit(
            module.in_features, module.out_features, bias=module.bias is not None,
            compute_dtype=dtype, quant_type="nf4", device="meta",
        )  # fmt: skip
        # the packed kernel for CPUs has no backward pass, and not every machine has it
        small.support_avx512bf16_for_cpu = False
        weight = module.weight.detach()
        small.weight = layers.Params4bit(
            weight, requires_grad=False, quant_type="nf4", module=small
        )
        small.bias = module.bias
        transformer.set_submodule(name, small.to(device))  # the move quantises
