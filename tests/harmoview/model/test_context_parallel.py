"""Two ranks give what one gives: half the sequence each, or half the batch and the weights each."""

from __future__ import annotations

import pytest
import tiny
import torch
from diffusers import ContextParallelConfig
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from tests.processes import together
from training.recompute import recompute


def _sequence(rank):
    torch.accelerator.device_count = lambda: 1  # diffusers divides by it, and a CPU has none
    for timestep in ("shared", "zero"):
        for slots in (2, 1):  # references beyond one rank's half, and within it
            model, inputs = tiny.harmoview(reference_timestep=timestep), tiny.inputs()
            inputs["reference_mask"][0, 1] = False
            for name in ("reference_latents", "reference_mask", "encoder_hidden_states_image"):
                inputs[name] = inputs[name][:, :slots]
            with torch.no_grad():
                alone = model(**inputs, return_dict=False)[0]
                model.enable_parallelism(config=ContextParallelConfig(ulysses_degree=2))
                both = model(**inputs, return_dict=False)[0]
            assert alone.shape == both.shape
            assert torch.allclose(alone, both, atol=2e-6), (alone - both).abs().max()


def _gradients(rank):
    torch.accelerator.device_count = lambda: 1
    apart = {"reference_attention": "references", "reference_timestep": "zero"}
    values = tiny.inputs()
    values["reference_mask"][0, 1] = False
    alone, shared = tiny.harmoview(**apart), tiny.harmoview(**apart)
    shared.enable_parallelism(config=ContextParallelConfig(ulysses_degree=2))
    for model in (alone, shared):
        model(**values, return_dict=False)[0].square().mean().backward()
    for (name, one), mine in zip(alone.named_parameters(), shared.parameters(), strict=True):
        torch.distributed.all_reduce(mine.grad)
        assert torch.allclose(one.grad, mine.grad, atol=1e-6), name


def _weights(rank):
    def sample(k):
        return {name: value[k : k + 1] for name, value in values.items()}

    values = tiny.inputs()
    values["reference_mask"][0] = False  # one rank shows nothing, the other one of two people
    values["reference_mask"][1, 1] = False
    whole = tiny.harmoview().train()
    (sum(whole(**sample(k)).sample.square().mean() for k in range(2)) / 2).backward()
    model = tiny.harmoview().train()
    recompute(model, "all_but_attention")
    mesh = init_device_mesh("cpu", (2,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    model(**sample(rank)).sample.square().mean().backward()
    for (name, mine), (_, expected) in zip(
        model.named_parameters(), whole.named_parameters(), strict=True
    ):
        assert torch.allclose(mine.grad.full_tensor(), expected.grad, atol=1e-6), name


@pytest.mark.usefixtures("_torch_imported")
@pytest.mark.parametrize(
    "work", [_sequence, _gradients, _weights], ids=["context_parallel", "gradients", "fsdp2"]
)
def test_two_ranks_give_what_one_gives(tmp_path, work):
    """Outputs with the sequence cut anywhere; gradients of its parts, where references attend to
    one another only, and with ranks that show different views."""
    together(tmp_path / "meet", work)
