"""The kernel with which the model attends."""

from __future__ import annotations

from typing import Any

import torch

from training.device import best_attention

_HEAD = 8
"""What must divide the width of a head for cuDNN and FlashAttention."""


def use_best_attention(
    model: Any, device: torch.device, dtype: torch.dtype, *, learns: bool = False
) -> None:
    """Choose the kernel of a model, ours or a stock Wan, that computes on `device` in `dtype`."""
    kernel = best_attention(device, dtype, learns=learns)
    if kernel != "native" and model.config.attention_head_dim % _HEAD == 0:
        set_self_attention(model, kernel)


def set_self_attention(model: Any, kernel: str) -> None:
    """Set the kernel, by diffusers' name, of self-attention, which is nearly all of the work.

    Cross-attention is left to torch, which chooses for each call: where the samples of a batch
    differ in their frontal references there is a mask, which not every kernel takes.
    """
    for block in model.blocks:
        block.attn1.set_attention_backend(kernel)
