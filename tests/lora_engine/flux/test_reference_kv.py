import pytest
import torch
from diffusers import FluxTransformer2DModel

from lora_engine.flux import vae
from lora_engine.flux.adapter import add_lora
from lora_engine.flux.reference_kv import USE, ReferenceKV
from lora_engine.flux.settings import TARGETS
from training.learned import learning

SIDE, TEXT = 4, 8


@pytest.fixture
def transformer(tiny_base):
    return FluxTransformer2DModel.from_pretrained(tiny_base / "transformer")


@pytest.fixture
def inputs():
    """Two views of one reference."""
    draw = torch.Generator().manual_seed(1)
    target = torch.randn(2, SIDE * SIDE, 16, generator=draw)
    return {
        "hidden_states": target,
        "encoder_hidden_states": torch.randn(2, TEXT, 32, generator=draw),
        "pooled_projections": torch.randn(2, 32, generator=draw),
        "timestep": torch.tensor([0.3, 0.9]),
        "guidance": torch.ones(2),
        "txt_ids": torch.zeros(TEXT, 3),
        "img_ids": vae.position_ids(SIDE, 0, target),
        "return_dict": False,
    }


@pytest.fixture
def reference():
    tokens = torch.randn(1, SIDE * SIDE, 16, generator=torch.Generator().manual_seed(2))
    return tokens, vae.position_ids(SIDE, 1, tokens)


def test_without_a_reference_it_is_the_stock_processor(transformer, inputs):
    """The processor changes nothing until it is told to."""
    with torch.no_grad():
        stock = transformer(**inputs)[0]
        ReferenceKV(transformer)
        assert torch.equal(transformer(**inputs)[0], stock)


def test_computed_once_equals_recomputed_each_step(transformer, inputs, reference):
    """The kept keys and values depend on neither the step nor the views."""
    cache = ReferenceKV(transformer)
    with torch.no_grad():
        cache.compute(*reference)
        once = []
        for t in (1.0, 0.5, 0.1):
            inputs["timestep"] = torch.full((2,), t)
            once.append(transformer(**inputs, joint_attention_kwargs=USE)[0])
        for t, expected in zip((1.0, 0.5, 0.1), once, strict=True):
            cache.compute(*reference)
            inputs["timestep"] = torch.full((2,), t)
            assert torch.equal(transformer(**inputs, joint_attention_kwargs=USE)[0], expected)


def test_the_reference_is_seen(transformer, inputs, reference):
    """Another reference gives another prediction."""
    cache = ReferenceKV(transformer)
    tokens, ids = reference
    with torch.no_grad():
        cache.compute(tokens, ids)
        one = transformer(**inputs, joint_attention_kwargs=USE)[0]
        cache.compute(tokens.flip(1), ids)
        other = transformer(**inputs, joint_attention_kwargs=USE)[0]
    assert (one - other).abs().max() > 1e-4


def test_one_reference_serves_a_batch_as_it_serves_each_view(transformer, inputs, reference):
    """Views in one batch equal views one by one."""
    cache = ReferenceKV(transformer)
    with torch.no_grad():
        cache.compute(*reference)
        together = transformer(**inputs, joint_attention_kwargs=USE)[0]
        for i in range(2):
            one = {k: v[i : i + 1] if "ids" not in k else v for k, v in inputs.items()
                   if k != "return_dict"}  # fmt: skip
            alone = transformer(**one, joint_attention_kwargs=USE, return_dict=False)[0]
            assert torch.allclose(alone, together[i : i + 1], atol=1e-5)


def gradients(transformer, inputs, reference):
    transformer.zero_grad()
    cache = ReferenceKV(transformer)
    cache.compute(*reference)
    transformer(**inputs, joint_attention_kwargs=USE)[0].square().mean().backward()
    return {name: p.grad.clone() for name, p in learning(transformer).items()}


def test_gradients_reach_the_reference_pass(transformer, inputs, reference):
    """Cutting the graph between the passes changes the gradients; the reference itself gets one."""
    tokens, ids = reference
    tokens.requires_grad_()
    cache = ReferenceKV(transformer)
    cache.compute(tokens, ids)
    transformer(**inputs, joint_attention_kwargs=USE)[0].square().mean().backward()
    assert tokens.grad.abs().max() > 0


def test_checkpointing_keeps_the_gradients(transformer, inputs, reference):
    """Blocks run again in the backward pass give the very gradients of a plain run."""
    transformer.requires_grad_(False)
    torch.manual_seed(0)
    add_lora(transformer, 2, 2.0, TARGETS)
    for name, parameter in learning(transformer).items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    transformer.train()
    plain = gradients(transformer, inputs, reference)
    transformer.enable_gradient_checkpointing()
    again = gradients(transformer, inputs, reference)
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    reference_side = "transformer_blocks.0.attn.to_k.lora_A.default.weight"
    assert plain[reference_side].abs().max() > 0


def test_use_before_compute_is_an_error(transformer, inputs):
    """There is no silent run without a reference."""
    ReferenceKV(transformer)
    with pytest.raises(RuntimeError, match="has not been through"), torch.no_grad():
        transformer(**inputs, joint_attention_kwargs=USE)
