import multiprocessing

import pytest
import torch
from diffusers import FluxTransformer2DModel

from lora_engine.flux.adapter import add_lora
from lora_engine.flux.learner import share_out
from lora_engine.flux.settings import TARGETS
from training.learned import learning


def process(rank, base, rendezvous, found):
    """One of two processes that share a base: what of the LoRA and of the base it holds."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2
    )
    transformer = FluxTransformer2DModel.from_pretrained(base / "transformer")
    transformer.requires_grad_(False)
    whole = sum(p.numel() for p in transformer.parameters())
    add_lora(transformer, 2, 2.0, TARGETS)
    learned = sum(p.numel() for p in learning(transformer).values())
    share_out(transformer, torch.device("cpu"))
    kept = sum(p.numel() for p in learning(transformer).values())
    held = sum(p.to_local().numel() for p in transformer.parameters() if not p.requires_grad)
    found.put((held / whole, kept / learned))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_a_shared_base_is_halved_and_the_lora_is_whole(tiny_base, tmp_path):
    """Two processes hold about half of the base's weights each, and all of the LoRA's."""
    context = multiprocessing.get_context("spawn")
    found = context.Queue()
    workers = [
        context.Process(target=process, args=(rank, tiny_base, tmp_path / "rendezvous", found))
        for rank in range(2)
    ]
    for worker in workers:
        worker.start()
    shares = [found.get(timeout=600) for _ in workers]
    for worker in workers:
        worker.join(60)
    for base, lora in shares:
        assert 0.45 < base < 0.55
        assert lora == 1
