"""One expert on disk: what was trained comes back, on the right base or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
import torch
from diffusers import WanPipeline

from datapipe.errors import UserError
from harmoview.checkpoint import load_expert, save_parts
from harmoview.model.transformer import HarmoViewTransformer3DModel
from harmoview.trainable import Lora, add_lora

from_wan = HarmoViewTransformer3DModel.from_wan
SMALL = {"vit_dim": tiny.VIT_DIM, "vit_layer": 0, "vit_size": 56, "reference_size": 32}


@pytest.fixture
def base(tmp_path):
    return str(tiny.save_base(tmp_path / "base", "A14B"))


def trained(base, name="transformer", lora=True, **settings):
    """An expert whose new parts and adapter are no longer what they began as."""
    model = from_wan(base, subfolder=name, **{**SMALL, **settings})
    if lora:
        add_lora(model, Lora(rank=2, alpha=6))
    draw = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if ".lora_" in parameter_name or "image_embedder" in parameter_name:
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.1)
    return model


def out(model):
    with torch.no_grad():
        return model(**tiny.inputs()).sample


@pytest.mark.parametrize("lora", [True, False])
@pytest.mark.parametrize("name", ["transformer", "transformer_2"])
def test_parts_on_their_base_are_the_trained_model(base, tmp_path, name, lora):
    """Config, new parts and adapter: the same output, gap settings and scale of the adapter too."""
    model = trained(base, name, lora, identity_gap=5)
    save_parts(model, tmp_path / "own" / name)
    again = load_expert(tmp_path / "own", base, name)
    assert again.layout == model.layout
    assert torch.allclose(out(again), out(model), atol=1e-6)


def test_a_whole_model_needs_no_base(base, tmp_path):
    """save_pretrained's folder is read as it is."""
    model = trained(base, lora=False)
    model.save_pretrained(tmp_path / "own" / "transformer")
    again = load_expert(tmp_path / "own", "nowhere", "transformer")
    assert torch.equal(out(again), out(model))


def test_the_adapter_is_a_stock_wan_lora(base, tmp_path):
    """diffusers' own pipeline loads the file onto plain Wan."""
    model = trained(base)
    save_parts(model, tmp_path / "own")
    stock = WanPipeline.from_pretrained(base)
    stock.load_lora_weights(tmp_path / "own")
    values = tiny.inputs()
    plain = {k: values[k] for k in ("hidden_states", "timestep", "encoder_hidden_states")}
    with torch.no_grad():
        expected = model(**plain).sample
        assert torch.allclose(stock.transformer(**plain).sample, expected, atol=1e-6)


def test_an_untrained_expert_is_named(base, tmp_path):
    """A checkpoint of the high-noise expert alone does not make a pipeline."""
    save_parts(trained(base), tmp_path / "own" / "transformer")
    with pytest.raises(UserError, match=r"transformer_2/config\.json"):
        load_expert(tmp_path / "own", base, "transformer_2")


def test_parts_of_another_base_are_refused(base, tmp_path):
    """The message says which numbers differ."""
    save_parts(trained(base), tmp_path / "own" / "transformer")
    other = tiny.save_base(tmp_path / "other", "5B")
    with pytest.raises(UserError, match="in_channels is 16, not 48"):
        load_expert(tmp_path / "own", str(other), "transformer")


def test_a_plain_wan_is_not_a_checkpoint(base):
    """The class in the config decides."""
    with pytest.raises(UserError, match="holds a WanTransformer3DModel"):
        load_expert(Path(base), base, "transformer")


def test_parts_that_do_not_fit_their_config_are_refused(base, tmp_path):
    """A config edited by hand is caught."""
    folder = tmp_path / "own" / "transformer"
    save_parts(trained(base), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vit_dim": None}))
    with pytest.raises(UserError, match="image_embedder"):
        load_expert(tmp_path / "own", base, "transformer")
