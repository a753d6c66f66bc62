"""The train sets: exactly the named parameters, and an adapter that starts as nothing."""

from __future__ import annotations

import pytest
import tiny
import torch

from harmoview.trainable import Lora, add_lora, select

NEW = ["proxy_token", "identity_vectors", "condition_embedder.image_embedder.weight",
       "condition_embedder.image_embedder.bias"]  # fmt: skip
LAYERS = ["attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "attn2.to_q", "attn2.to_k",
          "attn2.to_v", "attn2.to_out.0", "ffn.net.0.proj", "ffn.net.2"]  # fmt: skip
ADAPTER = [f"blocks.{block}.{layer}.lora_{half}.default.weight"
           for block in range(2) for layer in LAYERS for half in "AB"]  # fmt: skip


@pytest.mark.parametrize(
    ("train", "names"),
    [("lora", ADAPTER), ("new_parts", NEW), ("new_parts_and_lora", [*NEW, *ADAPTER])],
)
def test_a_set_trains_exactly_its_parameters(train, names):
    """By name: nothing more requires a gradient, and nothing less."""
    model = tiny.harmoview()
    add_lora(model, Lora(rank=2))
    selected = select(model, train)
    assert sorted(selected) == sorted(names)
    assert selected == [name for name, p in model.named_parameters() if p.requires_grad]


def test_full_trains_every_parameter_of_model_and_base():
    """Wan's parameters and the new parts."""
    model = tiny.harmoview()
    names = set(select(model, "full"))
    assert names == {name for name, _ in tiny.wan().named_parameters()} | set(NEW)


@pytest.mark.parametrize("train", ["full", "lora", "new_parts", "new_parts_and_lora"])
def test_a_step_changes_the_selected_parameters_and_no_other(train):
    """One optimiser step on a batch that shows and hides views."""
    model = tiny.harmoview().train()
    if "lora" in train:
        add_lora(model, Lora(rank=2))
    selected = set(select(model, train))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    values = tiny.inputs()
    values["reference_mask"][:, 0, 0] = False
    for _ in range(2):  # at the first step B is zero, so that A has no gradient
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
        model(**values).sample.square().mean().backward()
        optimizer.step()
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed <= selected
    still = selected - changed
    assert all(name.endswith("to_k.bias") for name in still)  # softmax does not see a key's bias


def test_a_new_adapter_changes_nothing_and_is_the_same_everywhere():
    """B is zero; A is drawn from the seed, whatever was drawn before; all is float32."""
    values = tiny.inputs()
    states = []
    for other_draws in (1, 7):
        model = tiny.harmoview()
        with torch.no_grad():
            plain = model(**values).sample
            torch.manual_seed(other_draws)
            add_lora(model, Lora(rank=2, seed=3))
            assert torch.equal(model(**values).sample, plain)
        states.append({n: p for n, p in model.named_parameters() if ".lora_" in n})
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert {p.dtype for p in states[0].values()} == {torch.float32}


def test_an_adapter_that_is_not_there_cannot_train():
    """The message says what to call."""
    with pytest.raises(ValueError, match="add_lora"):
        select(tiny.harmoview(), "lora")
