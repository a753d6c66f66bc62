"""Attention kernels: a fast one changes rounding only, also where it takes no mask."""

from __future__ import annotations

import pytest
import tiny
import torch

from harmoview.attention import set_self_attention, use_best_attention


def test_a_kernel_without_masks_serves_a_batch_that_differs_in_its_references():
    """Outputs and gradients are those of torch's own choice; with it everywhere there are none."""
    values = tiny.inputs()
    values["reference_mask"][0, 1] = False
    outputs, gradients = [], []
    for kernel in (None, "_native_flash"):
        model = tiny.harmoview().train()
        if kernel is not None:
            set_self_attention(model, kernel)
        sample = model(**values).sample
        sample.square().sum().backward()
        outputs.append(sample.detach())
        gradients.append([p.grad for p in model.parameters()])
    assert torch.allclose(*outputs, atol=1e-5)
    assert all(torch.allclose(*pair, rtol=1e-3, atol=1e-5) for pair in zip(*gradients, strict=True))
    for block in model.blocks:
        block.attn2.set_attention_backend("_native_flash")
    with pytest.raises(ValueError, match="attn_mask"):
        model(**values)


def test_on_a_cpu_the_model_is_left_alone():
    """Torch's own choice is the best there."""
    model = tiny.harmoview()
    use_best_attention(model, torch.device("cpu"), torch.bfloat16, learns=True)
    assert all(block.attn1.processor._attention_backend is None for block in model.blocks)
