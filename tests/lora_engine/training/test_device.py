"""Laws of what is chosen for a device."""

import pytest
import torch

from lora_engine.training.device import best_attention

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
