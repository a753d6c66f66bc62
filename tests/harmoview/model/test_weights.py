"""Wan's weights: taken as they are, completed at random, nothing left without a value."""

from __future__ import annotations

import pytest
import tiny
import torch

from datapipe.errors import UserError
from harmoview.model.new_parts import NEW_PARTS, initialize
from harmoview.model.transformer import HarmoViewTransformer3DModel
from harmoview.model.weights import gray_latent

from_wan = HarmoViewTransformer3DModel.from_wan


@pytest.fixture
def base(tmp_path):
    return tiny.save_base(tmp_path)


def test_nothing_stays_on_meta_and_wans_weights_are_wans(base):
    """Parameters and buffers, the rotary table among them, are all there; the rest is Wan's."""
    model = from_wan(base / "transformer")
    assert not [n for n, p in [*model.named_parameters(), *model.named_buffers()] if p.is_meta]
    state, stock = model.state_dict(), tiny.wan().state_dict()
    assert all(torch.equal(state[name], stock[name]) for name in stock)
    assert set(state) - set(stock) == set(NEW_PARTS)
    assert all(state[name].isfinite().all() for name in NEW_PARTS)


def test_the_new_parts_do_not_depend_on_torchs_default_device():
    """A model is built within `with device:` on a GPU; the draws are made on the CPU."""
    model, same = tiny.harmoview(), tiny.harmoview()
    initialize(model, seed=7)
    with torch.device("meta"):
        initialize(same, seed=7)
    for one, other in zip(model.parameters(), same.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_new_parts_are_random_but_the_same_everywhere(base):
    """Drawn from the seed alone; the proxy token is not zero."""
    torch.manual_seed(1)
    first = from_wan(base / "transformer")
    torch.manual_seed(2)
    again, other = from_wan(base / "transformer"), from_wan(base / "transformer", seed=1)
    assert torch.equal(first.proxy_token, again.proxy_token)
    assert not torch.equal(first.proxy_token, other.proxy_token)
    assert first.proxy_token.detach().std() > 0.05
    linear = first.condition_embedder.image_embedder
    assert float(linear.weight.detach().std()) == pytest.approx(5120**-0.5, rel=0.05)
    assert not linear.bias.any()


def test_the_reference_timestep_follows_the_base(tmp_path, base):
    """Zero for 48 channels, shared for 16, unless it is said."""
    five = tiny.save_base(tmp_path / "5B", "5B")
    assert from_wan(five / "transformer").config.reference_timestep == "zero"
    assert from_wan(base / "transformer").config.reference_timestep == "shared"
    chosen = from_wan(base / "transformer", reference_timestep="zero")
    assert chosen.config.reference_timestep == "zero"


@pytest.mark.parametrize(
    ("setting", "missing"),
    [({"vit_dim": None}, "image_embedder"), ({"absent_views": "sequential"}, "proxy_token")],
)
def test_an_ablation_is_one_setting_and_leaves_no_dead_weights(base, setting, missing):
    """Without MFI there is no linear layer, without proxies no proxy token."""
    model = from_wan(base / "transformer", **setting)
    assert not [name for name, _ in model.named_parameters() if missing in name]


def test_gray_padding_measures_the_vae_beside(base):
    """The latent of mid-grey, a number a channel, from the same base's VAE."""
    model = from_wan(base / "transformer", absent_views="gray")
    assert model.config.gray_latent == gray_latent(tiny.vae())
    assert len(set(model.config.gray_latent)) > 1


def test_a_subfolder_of_a_pipeline_may_be_named(base):
    """As diffusers does: folder plus subfolder."""
    whole = from_wan(base, subfolder="transformer")
    assert torch.equal(whole.proj_out.weight, from_wan(base / "transformer").proj_out.weight)


def test_bfloat16_keeps_wans_float32_parts(base):
    """dtype acts as in diffusers."""
    model = from_wan(base / "transformer", dtype=torch.bfloat16)
    assert model.blocks[0].scale_shift_table.dtype == torch.float32
    assert {model.proxy_token.dtype, model.proj_out.weight.dtype} == {torch.bfloat16}


def test_what_is_missing_is_named(tmp_path):
    """Which files were looked for, and how to get them."""
    with pytest.raises(UserError, match=r"config\.json.*safetensors.*hf download"):
        HarmoViewTransformer3DModel.from_wan(str(tmp_path / "nothing"))


def test_an_image_to_video_wan_is_refused(tmp_path):
    """Its input has more channels than its output."""
    tiny.wan(in_channels=36).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="image-to-video"):
        from_wan(tmp_path)


def test_gray_without_a_vae_is_named(tmp_path):
    """A transformer alone cannot say what grey is."""
    tiny.wan().save_pretrained(tmp_path / "transformer")
    with pytest.raises(UserError, match="VAE"):
        from_wan(tmp_path / "transformer", absent_views="gray")
