"""With which kernel the model attends."""

from __future__ import annotations

from typing import Any

import torch

from training.device import best_attention

_HEAD = 8
"""Of what cuDNN and FlashAttention want the width of a head to be a multiple."""


def use_best_attention(
    model: Any, device: torch.device, dtype: torch.dtype, *, learns: bool = False
) -> None:
    """Choose the kernel for a model, ours or a stock Wan, that computes there in `dtype`."""
    kernel = best_attention(device, dtype, learns=learns)
    if kernel != "native" and model.config.attention_head_dim % _HEAD == 0:
        set_self_attention(model, kernel)


def set_self_attention(model: Any, kernel: str) -> None:
    """Set diffusers' kernel of that name for self-attention, which is nearly all of the work.

    Cross-attention is left to torch, which chooses for each call: where the samples of a batch
    differ in their frontal references it has a mask, which not every kernel takes.
    """
    for block in model.blocks:
        block.attn1.set_attention_backend(kernel)
