"""What this machine's device does best: precision, attention kernel, compilation, batch size."""

from __future__ import annotations

import gc
import importlib.util
import logging
from typing import Any

import torch

from datapipe.errors import UserError
from lora_engine.flux.choices import Precision

_LIVE_FLOATS = 48
"""Floats a token keeps alive at the peak of a block, in units of the model's width: queries, keys,
values, the MLP's 4 + 1 widths twice over, residuals, and attention's workspace."""


def hush() -> None:
    """No bars and no advice from the model libraries; call it before they are imported."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    for noisy in ("torchao", "torch.utils._pytree", "bitsandbytes"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    of_diffusers.set_verbosity_error()
    of_transformers.set_verbosity_error()
    of_transformers.disable_progress_bar()
    of_diffusers.disable_progress_bar()


def device_named(name: str | None) -> torch.device:
    """That device, or the best there is. Raises UserError when it is not there."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {name}: torch sees no GPU here; leave it out or use cpu")
    return device


def precision_named(name: Precision | None, device: torch.device) -> torch.dtype:
    """That dtype; bfloat16 on a GPU and float32 on a CPU where none is asked for."""
    if name is None:
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"bfloat16": torch.bfloat16, "float32": torch.float32}[name]


def forget(device: torch.device) -> None:
    """Give the memory of dropped models back; sharded ones are in cycles."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def best_attention(device: torch.device) -> str:
    """Diffusers' name of the fastest installed attention that only rounds differently."""
    if device.type != "cuda":
        return "native"
    hopper = torch.cuda.get_device_capability(device)[0] >= 9
    if hopper and importlib.util.find_spec("flash_attn_interface") is not None:
        return "_flash_3"
    return "_native_cudnn" if hopper else "native"


def views_at_once(model: Any, tokens: int, views: int, device: torch.device) -> int:
    """How many of `views` fit in the free memory together, at `tokens` tokens each."""
    if device.type != "cuda":
        return views
    config = model.config
    width = config.num_attention_heads * config.attention_head_dim
    need = tokens * width * _LIVE_FLOATS * model.dtype.itemsize
    free, _ = torch.cuda.mem_get_info(device)
    reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(min(views, max(1, (free + reserved) * 0.9 // need)))
