"""Context parallelism: two ranks with half the sequence each give what one rank gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WORKER = """
import sys
sys.path.insert(0, {here!r})
import tiny, torch
import torch.distributed as dist
from diffusers import ContextParallelConfig

torch.accelerator.device_count = lambda: 1  # diffusers divides by it, and a CPU has none
dist.init_process_group("gloo", init_method="file://{rendezvous}", rank=int(sys.argv[1]),
                        world_size=2)
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
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_ranks_give_what_one_gives(tmp_path):
    """References and video are cut by tokens, so that a rank's piece may hold both kinds."""
    code = WORKER.format(here=str(Path(__file__).parent), rendezvous=tmp_path / "meet")
    ranks = [
        subprocess.Popen([sys.executable, "-c", code, str(rank)], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    errors = [rank.communicate(timeout=300)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], errors
