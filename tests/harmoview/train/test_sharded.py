"""The model shared out by FSDP2 computes what diffusers' own model computes."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch.distributed.tensor import DTensor

from harmoview.model.transformer import HarmoViewTransformer3DModel
from harmoview.train.sharded import shard
from training.parallel import average_gradients, clip_gradients, process_group

CPU = torch.device("cpu")


@pytest.fixture
def alone():
    """torch.distributed for one process."""
    with process_group(CPU):
        yield


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", ["shared", "zero"])
@pytest.mark.usefixtures("alone")
def test_it_computes_what_diffusers_model_of_that_type_does(tmp_path, dtype, kind):
    """Bit for bit, from float32 weights: times, rotations and modulation keep their precision."""
    tiny.harmoview(reference_timestep=kind).save_pretrained(tmp_path)
    stock = HarmoViewTransformer3DModel.from_pretrained(tmp_path, dtype=dtype)
    ours = HarmoViewTransformer3DModel.from_pretrained(tmp_path)
    values = {**tiny.inputs(), "timestep": torch.tensor([873.4, 501.7])}
    shard(ours, CPU, dtype)
    with torch.no_grad():
        rounded = {
            name: value.to(dtype) if value.is_floating_point() and name != "timestep" else value
            for name, value in values.items()
        }
        assert torch.equal(ours(**values).sample, stock(**rounded).sample)


@pytest.mark.usefixtures("alone")
def test_what_wan_keeps_in_float32_is_whole_and_the_rest_is_shared_out():
    """Time embedder, modulation tables and the affine norm; nothing else."""
    model = tiny.harmoview()
    shard(model, CPU, torch.bfloat16)
    whole = {name for name, p in model.named_parameters() if not isinstance(p, DTensor)}
    parts = {name.removeprefix("blocks.0.").removeprefix("blocks.1.") for name in whole}
    time = "condition_embedder.time_embedder.linear_"
    linear = {f"{time}{n}.{kind}" for n in (1, 2) for kind in ("weight", "bias")}
    assert parts == {"scale_shift_table", "norm2.weight", "norm2.bias", *linear}


@pytest.mark.usefixtures("alone")
def test_gradients_are_clipped_by_the_norm_of_all_of_them():
    """Whole and shared out together, as on a model that is neither."""
    model, plain = tiny.harmoview().train(), tiny.harmoview().train()
    shard(model, CPU, torch.float32)
    for one in (model, plain):
        one(**tiny.inputs()).sample.square().sum().backward()
    parameters = list(model.parameters())
    average_gradients(parameters)
    norm = clip_gradients(parameters, 0.5)
    assert norm == pytest.approx(float(torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)))
    for mine, other in zip(parameters, plain.parameters(), strict=True):
        whole = mine.grad.full_tensor() if isinstance(mine, DTensor) else mine.grad
        assert torch.allclose(whole, other.grad, atol=1e-7)
