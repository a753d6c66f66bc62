"""Two ranks give what one gives: half the sequence each, or half the batch and the weights each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

START = """
import sys
sys.path.insert(0, {here!r})
import tiny, torch
import torch.distributed as dist
from diffusers import ContextParallelConfig
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://{rendezvous}", rank=rank, world_size=2)
"""
SEQUENCE = """
torch.accelerator.device_count = lambda: 1  # diffusers divides by it, and a CPU has none
for timestep in ("shared", "zero"):
    model, values = tiny.harmoview(reference_timestep=timestep), tiny.inputs()
    values["reference_mask"][0, 1] = False
    for slots in (2, 1):  # references beyond one rank's half, and within it
        inputs = dict(values)
        for name in ("reference_latents", "reference_mask", "encoder_hidden_states_image"):
            inputs[name] = values[name][:, :slots]
        with torch.no_grad():
            alone = model(**inputs, return_dict=False)[0]
            model.enable_parallelism(config=ContextParallelConfig(ulysses_degree=2))
            together = model(**inputs, return_dict=False)[0]
        assert alone.shape == together.shape, (alone.shape, together.shape)
        assert torch.allclose(alone, together, atol=2e-6), (alone - together).abs().max()
        model = tiny.harmoview(reference_timestep=timestep)
"""
WEIGHTS = """
def sample(values, k):
    return {name: value[k : k + 1] for name, value in values.items()}

values = tiny.inputs()
values["reference_mask"][0] = False  # one rank shows nothing, the other one of two people
values["reference_mask"][1, 1] = False
whole = tiny.harmoview().train()
(sum(whole(**sample(values, k)).sample.square().mean() for k in range(2)) / 2).backward()
model = tiny.harmoview().train()
model.enable_gradient_checkpointing()
mesh = init_device_mesh("cpu", (2,))
for block in model.blocks:
    fully_shard(block, mesh=mesh)
fully_shard(model, mesh=mesh)
model(**sample(values, rank)).sample.square().mean().backward()
for (name, mine), (_, expected) in zip(model.named_parameters(), whole.named_parameters()):
    assert torch.allclose(mine.grad.full_tensor(), expected.grad, atol=1e-6), name
"""


@pytest.mark.slow
@pytest.mark.parametrize("work", [SEQUENCE, WEIGHTS], ids=["context_parallel", "fsdp2"])
def test_two_ranks_give_what_one_gives(tmp_path, work):
    """Outputs with the sequence cut anywhere; gradients with ranks that show different views."""
    start = START.format(here=str(Path(__file__).parents[1]), rendezvous=tmp_path / "meet")
    code = start + work + "dist.destroy_process_group()"
    ranks = [
        subprocess.Popen([sys.executable, "-c", code, str(rank)], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    errors = [rank.communicate(timeout=300)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], errors
