"""What this machine's device does best: precision, attention kernel, compilation, batch size.

And what GPUs can do by their makers' data sheets, for plans and for the share of it that is used.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace
from typing import Any

import torch

from datapipe.errors import UserError
from training.options import Precision, hush_imports


def silence_libraries() -> None:
    """Let the model libraries show no bars and no advice; to be called before their import."""
    hush_imports()
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    of_diffusers.set_verbosity_error()
    of_transformers.set_verbosity_error()
    of_transformers.disable_progress_bar()
    of_diffusers.disable_progress_bar()


def device_named(name: str | None) -> torch.device:
    """The device of that name, or the best there is. Raises UserError when it is not there."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {name}: torch sees no GPU here; leave it out or use cpu")
    return device


def precision_named(name: Precision | None, device: torch.device) -> torch.dtype:
    """The dtype of that name; bfloat16 on a GPU and float32 on a CPU where none is asked for."""
    if name is None:
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"bfloat16": torch.bfloat16, "float32": torch.float32}[name]


def free_memory(device: torch.device) -> None:
    """Give the memory of dropped models back; those that are shared out are in cycles."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def best_attention(device: torch.device, dtype: torch.dtype, *, learns: bool = False) -> str:
    """Diffusers' name of the fastest installed attention that only rounds differently.

    FlashAttention 3 is Hopper's, and has no backward pass as diffusers calls it; it and cuDNN's
    take 16 bits only.
    """
    from diffusers.utils import is_flash_attn_3_available

    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return "native"
    generation = torch.cuda.get_device_capability(device)[0]
    if generation == 9 and not learns and is_flash_attn_3_available():
        return "_flash_3"
    return "_native_cudnn" if generation >= 9 else "native"


def check_attention(name: str) -> None:
    """Raises UserError for a name that diffusers does not know."""
    from diffusers.models.attention_dispatch import AttentionBackendName

    known = sorted(backend.value for backend in AttentionBackendName)
    if name.lower() not in known:
        raise UserError(f"--attention {name}: must be one of {', '.join(known)}")


def use_attention(transformer: Any, name: str) -> None:
    """Set the kernel, after any change of processors. Raises UserError where it is not there.

    Of this model only: diffusers also makes it the process's, and the stock pipeline beside it,
    or an exact one, would no longer be what they are.
    """
    from diffusers.models.attention_dispatch import attention_backend

    if name != "native":
        try:
            with attention_backend():  # which puts the process's back at its end
                transformer.set_attention_backend(name)
        except (ValueError, RuntimeError, ImportError) as wrong:
            raise UserError(f"--attention {name}: {wrong}") from wrong


@dataclass(frozen=True, slots=True)
class Card:
    """A kind of GPU."""

    name: str
    """As the driver names it, or the part of it that tells it from others."""
    flops: float
    """Dense bfloat16 operations a second at best."""
    memory: float
    """GiB that a process sees."""


CARDS = (
    Card("H100 PCIe", 756e12, 79), Card("H100 NVL", 835e12, 93), Card("H100", 989e12, 79),
    Card("H200 NVL", 835e12, 139), Card("H200", 989e12, 139), Card("B200", 2250e12, 178),
    Card("A100", 312e12, 79), Card("L40S", 362e12, 44), Card("RTX 4090", 165e12, 23),
)  # fmt: skip
"""Looked through in this order, so that the longer name comes first."""


def card_here() -> Card | None:
    """Return the kind of this process's GPU; None where there is none, or an unknown one.

    Its memory is no more than is there: A100s of 40 GB and slices of a card have the same name.
    """
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    card = next((card for card in CARDS if card.name in name), None)
    if card is None:
        return None
    there = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return replace(card, memory=min(card.memory, there // 2**30))


def card_named(name: str) -> Card:
    """Return the card of that name. Raises UserError where it is not known."""
    for card in CARDS:
        if card.name.lower() == name.lower():
            return card
    known = ", ".join(card.name for card in CARDS)
    raise UserError(f"--card {name}: known are {known}")
