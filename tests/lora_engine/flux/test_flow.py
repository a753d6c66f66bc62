import pytest
import torch
from diffusers import FluxTransformer2DModel

from datapipe.record import YAWS
from lora_engine.flux.adapter import add_lora
from lora_engine.flux.groups import Draw, Group
from lora_engine.flux.learner import Objective
from lora_engine.flux.prompts import PromptEmbeddings, prompt
from lora_engine.flux.reference_kv import ReferenceKV
from lora_engine.flux.settings import TARGETS


@pytest.fixture
def embeddings():
    draw = torch.Generator().manual_seed(0)
    return PromptEmbeddings(
        {yaw: prompt(yaw) for yaw in YAWS},
        6,
        {yaw: torch.randn(6, 32, generator=draw) for yaw in YAWS},
        {yaw: torch.randn(32, generator=draw) for yaw in YAWS},
    )


def group(yaws, **changes):
    draw = torch.Generator().manual_seed(1)
    tensors = {
        "reference": torch.randn(1, 16, 16, generator=draw),
        "targets": torch.randn(3, 16, 16, generator=draw),
        "noise": torch.randn(3, 16, 16, generator=draw),
        "sigmas": torch.tensor([0.2, 0.5, 0.9]),
    }
    return Group(Draw("p", False, tuple(yaws), 0), **{**tensors, **changes})


@pytest.fixture(params=[False, True], ids=["concatenated", "two-pass"])
def objective(request, tiny_base, embeddings):
    transformer = FluxTransformer2DModel.from_pretrained(tiny_base / "transformer")
    cache = ReferenceKV(transformer) if request.param else None
    return Objective(transformer, torch.float32, embeddings, cache)


def part(whole, i):
    rows = {"targets": whole.targets, "noise": whole.noise, "sigmas": whole.sigmas}
    only = {name: rows[name][i : i + 1] for name in rows}
    return Group(Draw("p", False, whole.draw.frames[i : i + 1], 0), whole.reference, **only)


def test_loss_of_a_group_is_the_sum_over_its_targets(objective):
    """Sharing the reference changes nothing for a target."""
    whole = group((30, -90, 0))
    with torch.no_grad():
        parts = [objective(part(whole, i)) for i in range(3)]
        assert torch.allclose(objective(whole), sum(parts), rtol=1e-5)


def test_the_target_is_the_velocity_from_data_to_noise(objective):
    """A model that predicts nothing is charged the mean square of noise minus latent."""
    for parameter in objective.transformer.proj_out.parameters():
        torch.nn.init.zeros_(parameter)
    whole = group((30, -90, 0))
    expected = (whole.noise - whole.targets).square().mean(dim=(1, 2)).sum()
    with torch.no_grad():
        assert torch.allclose(objective(whole), expected)


def test_a_perfect_prediction_costs_nothing(objective):
    """With noise equal to the latent plus what the model says, the loss is zero."""
    for parameter in objective.transformer.proj_out.parameters():
        torch.nn.init.zeros_(parameter)
    whole = group((30, -90, 0))
    with torch.no_grad():
        assert objective(group((30, -90, 0), noise=whole.targets)) == 0


def test_prompt_reference_and_noise_level_are_seen(objective):
    """Another yaw, another person or another level gives another loss."""
    whole = group((30, -90, 0))
    with torch.no_grad():
        base = objective(whole)
        assert objective(group((60, -90, 0))) != base
        assert objective(group((30, -90, 0), reference=whole.reference.flip(1))) != base
        assert objective(group((30, -90, 0), sigmas=torch.tensor([0.2, 0.5, 0.8]))) != base


def test_a_fresh_lora_does_not_change_the_loss(objective):
    """B is zero: training starts at the base's own loss."""
    whole = group((30, -90, 0))
    with torch.no_grad():
        before = objective(whole)
        add_lora(objective.transformer, 2, 2.0, TARGETS)
        assert torch.equal(objective(whole), before)


def test_bfloat16_computes_close_to_float32(tiny_base, embeddings):
    """The precision of a GPU run works with a float32 LoRA, and gradients are float32."""
    transformer = FluxTransformer2DModel.from_pretrained(tiny_base / "transformer")
    with torch.no_grad():
        exact = Objective(transformer, torch.float32, embeddings, None)(group((30, -90, 0)))
    coarse = FluxTransformer2DModel.from_pretrained(tiny_base / "transformer",
                                                    dtype=torch.bfloat16)  # fmt: skip
    coarse.requires_grad_(False)
    add_lora(coarse, 2, 2.0, TARGETS)
    trained = [p for p in coarse.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    rounded = embeddings.to("cpu", torch.bfloat16)
    loss = Objective(coarse, torch.bfloat16, rounded, None)(group((30, -90, 0)))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(exact), rel=0.02)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in trained)
