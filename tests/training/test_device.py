"""Laws of what is chosen for a device."""

import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_flux import FluxAttention

from training.device import best_attention, use_attention

HOPPER, BLACKWELL, ADA = (9, 0), (10, 0), (8, 9)


@pytest.mark.parametrize(
    ("card", "dtype", "learns", "best"),
    [
        (HOPPER, torch.bfloat16, False, "_flash_3"),
        (HOPPER, torch.bfloat16, True, "_native_cudnn"),
        (HOPPER, torch.float32, False, "native"),
        (BLACKWELL, torch.bfloat16, False, "_native_cudnn"),
        (BLACKWELL, torch.float32, False, "native"),
        (ADA, torch.bfloat16, False, "native"),
    ],
)
def test_attention_is_one_that_card_dtype_and_backward_pass_allow(
    monkeypatch, card, dtype, learns, best
):
    """With FlashAttention 3 installed: it is for 16 bits on Hopper without gradients alone."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: card)
    monkeypatch.setattr("diffusers.utils.is_flash_attn_3_available", lambda: True)
    assert best_attention(torch.device("cuda"), dtype, learns=learns) == best


def test_a_models_attention_is_not_its_neighbours():
    """What another model is to attend with stays as it was: a mask is taken, as torch's does."""
    chosen = FluxTransformer2DModel(num_layers=1, num_single_layers=0, attention_head_dim=16,
                                    num_attention_heads=1, axes_dims_rope=(4, 4, 8))  # fmt: skip
    use_attention(chosen, "_native_flash")
    (attention,) = (one for one in chosen.modules() if isinstance(one, FluxAttention))
    assert attention.processor._attention_backend == "_native_flash"
    one = torch.randn(1, 4, 1, 16)
    mask = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    assert dispatch_attention_fn(one, one, one, attn_mask=mask).shape == one.shape
