import pytest
import torch
from diffusers import FluxTransformer2DModel

from lora_engine.flux.adapter import add_lora
from lora_engine.flux.learner import share_out
from lora_engine.flux.settings import TARGETS
from tests.processes import together
from training.learned import learning


def process(rank, base):
    """One of two processes that share a base: about half of it and all of the LoRA is its own."""
    transformer = FluxTransformer2DModel.from_pretrained(base / "transformer")
    transformer.requires_grad_(False)
    whole = sum(p.numel() for p in transformer.parameters())
    add_lora(transformer, 2, 2.0, TARGETS)
    learned = sum(p.numel() for p in learning(transformer).values())
    share_out(transformer, torch.device("cpu"))
    kept = sum(p.numel() for p in learning(transformer).values())
    held = sum(p.to_local().numel() for p in transformer.parameters() if not p.requires_grad)
    assert 0.45 < held / whole < 0.55
    assert kept == learned


@pytest.mark.usefixtures("_torch_imported")
def test_a_shared_base_is_halved_and_the_lora_is_whole(tiny_base, tmp_path):
    """Two processes hold about half of the base's weights each, and all of the LoRA's."""
    together(tmp_path / "meet", process, tiny_base)
