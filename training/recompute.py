"""Which activations a block keeps for the backward pass, and which it computes again there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from training.options import Recompute

_aten = torch.ops.aten
ATTENTION = (
    _aten._scaled_dot_product_flash_attention.default,
    _aten._scaled_dot_product_cudnn_attention.default,
    _aten._scaled_dot_product_efficient_attention.default,
    _aten._scaled_dot_product_fused_attention_overrideable.default,
    _aten._scaled_dot_product_flash_attention_for_cpu.default,
)
"""Torch's kernels, one of which a call of scaled_dot_product_attention ends in."""


def recompute(
    model: Any, kind: Recompute, also: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> None:
    """Set what the blocks of a diffusers model compute again; all of it gives the same bits.

    A second pass over a block runs within `also`.
    """
    if kind == "none":
        model.disable_gradient_checkpointing()
        return

    def run(block: nn.Module, *args: Any) -> Any:
        def contexts() -> tuple[Any, Any]:
            first: Any = nullcontext()
            second: Any = nullcontext()
            if kind == "all_but_attention":
                first, second = create_selective_checkpoint_contexts(_kept)  # type: ignore[no-untyped-call]
            return first, _within(also(), second)

        return checkpoint(block.__call__, *args, use_reentrant=False, context_fn=contexts)

    model.enable_gradient_checkpointing(run)


def _kept(_context: Any, operation: Any, *args: Any, **_: Any) -> CheckpointPolicy:
    """Keep what self-attention gives: most of the work of a long sequence, in one tensor of it.

    Attention to a condition, which is shorter than the sequence, is cheap for as large a tensor.
    """
    if operation in ATTENTION and args[1].shape[-2] >= args[0].shape[-2]:
        return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE


@contextmanager
def _within(*contexts: AbstractContextManager[Any]) -> Iterator[None]:
    first, second = contexts
    with first, second:
        yield
