"""The transformer: equal to Wan without references, blind to absent slots, whole on disk."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import get_args

import pytest
import tiny
import torch
from diffusers import FirstBlockCacheConfig, WanTransformer3DModel

from harmoview.model.new_parts import NEW_PARTS
from harmoview.model.transformer import HarmoViewTransformer3DModel
from training.options import Recompute
from training.recompute import recompute


def out(model, **values):
    with torch.no_grad():
        return model(**values).sample


def video_only(values):
    names = ("hidden_states", "timestep", "encoder_hidden_states")
    return {name: values[name] for name in names}


@pytest.fixture
def values():
    return tiny.inputs()


def test_importing_the_package_does_not_load_torch():
    """`import harmoview` is instant; its two classes come when they are asked for."""
    code = "import harmoview, sys; assert 'torch' not in sys.modules; harmoview.__getattr__"
    subprocess.run([sys.executable, "-c", code], check=True)
    package = importlib.import_module("harmoview")
    assert package.HarmoViewTransformer3DModel is HarmoViewTransformer3DModel


@pytest.mark.parametrize("channels", [16, 48])
@pytest.mark.parametrize("per_token", [False, True])
def test_without_references_it_is_wan_bit_for_bit(tmp_path, channels, per_token):
    """Same weights, same inputs, no references: not one bit differs, for [B] and [B, L] times."""
    base = tiny.wan(in_channels=channels, out_channels=channels)
    base.save_pretrained(tmp_path)
    values = video_only(tiny.inputs(channels=channels))
    if per_token:
        values["timestep"] = values["timestep"][:, None].repeat(1, 3 * 4 * 3)
        values["timestep"][:, :12] = 0
    model = HarmoViewTransformer3DModel.from_wan(tmp_path)
    assert torch.equal(out(model, **values), out(base, **values))
    with torch.no_grad():
        assert isinstance(model(**values, return_dict=False), tuple)


def test_references_change_the_output(values):
    """Each input counts: the latents of any view, the mask, the image features."""
    model = tiny.harmoview()
    before = out(model, **values)
    for name in ("reference_latents", "encoder_hidden_states_image"):
        other = {**values, name: values[name] + 1}
        assert not torch.allclose(out(model, **other), before)
    for slot in range(7):
        mask = values["reference_mask"].clone()
        mask[:, 1, slot] = False
        assert not torch.allclose(out(model, **{**values, "reference_mask": mask}), before)


@pytest.mark.parametrize("absent", ["proxy", "sequential", "gray"])
def test_what_an_absent_slot_holds_reaches_neither_output_nor_gradient(values, absent):
    """Latents and features of an absent view may be anything, NaN too."""
    gray = [0.1] * 16 if absent == "gray" else None
    model = tiny.harmoview(absent_views=absent, gray_latent=gray)
    mask = torch.rand(2, 2, 7, generator=torch.Generator().manual_seed(0)) < 0.5
    mask[0, 0, 3], mask[1, 1, 3] = False, True
    values["reference_mask"] = mask
    clean = model(**values).sample
    clean.square().mean().backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    values["reference_latents"][~mask] = float("nan")
    values["encoder_hidden_states_image"][~mask[:, :, 3]] = float("nan")
    dirty = model(**values).sample
    dirty.square().mean().backward()
    assert torch.equal(clean, dirty)
    assert all(torch.equal(p.grad, grads[name]) for name, p in model.named_parameters())


def test_every_present_slot_has_a_place_of_its_own(values):
    """The same portrait in another slot, or of the other identity, is another input."""
    model = tiny.harmoview()
    results = []
    for identity in range(2):
        for slot in range(7):
            mask = torch.zeros(2, 2, 7, dtype=torch.bool)
            mask[:, identity, slot] = True
            latents = values["reference_latents"][:, :1, :1].expand(2, 2, 7, 16, 4, 4)
            changed = {"reference_latents": latents, "reference_mask": mask}
            plain = {k: v for k, v in values.items() if k != "encoder_hidden_states_image"}
            results.append(out(model, **{**plain, **changed}))
    distances = torch.pdist(torch.stack(results).flatten(1))
    assert distances.min() > 1e-4


@pytest.mark.parametrize("timestep", ["shared", "zero"])
@pytest.mark.parametrize("absent", ["proxy", "sequential"])
def test_a_sample_does_not_depend_on_its_batch(timestep, absent):
    """A mixed batch gives what each of its samples gives alone: masking equals leaving out."""
    values = tiny.inputs(batch=3)
    mask = values["reference_mask"]
    mask[:, 1] = False
    mask[0, 0, [0, 4, 5, 6]] = False
    mask[1] = False
    mask[2, 0, :4] = False  # as many views as the first has, but others
    model = tiny.harmoview(reference_timestep=timestep, absent_views=absent)
    together = out(model, **values)
    for k in range(3):
        alone = out(model, **{name: value[k : k + 1] for name, value in values.items()})
        assert torch.allclose(together[k : k + 1], alone, atol=2e-6)


def test_an_absent_frontal_view_contributes_no_image_tokens(values):
    """With all frontal slots absent, features given equal features not given."""
    values["reference_mask"][:, :, 3] = False
    model = tiny.harmoview()
    without = {k: v for k, v in values.items() if k != "encoder_hidden_states_image"}
    assert torch.equal(out(model, **values), out(model, **without))


def test_views_packed_without_slots_and_none_shown_is_wan(values):
    """Sequential concatenation of no view at all is plain Wan."""
    values["reference_mask"][:] = False
    model = tiny.harmoview(absent_views="sequential")
    plain = out(model, **video_only(values))
    assert torch.allclose(out(model, **values), plain, atol=2e-6)


def test_zero_and_shared_agree_at_time_zero(values):
    """Two rows of modulation equal one row where the video's time is 0 itself."""
    shared, zero = (tiny.harmoview(reference_timestep=kind) for kind in ("shared", "zero"))
    assert not torch.allclose(out(shared, **values), out(zero, **values))
    values["timestep"] = torch.zeros(2)
    assert torch.allclose(out(shared, **values), out(zero, **values), atol=1e-6)


@pytest.mark.parametrize("kind", ["shared", "zero"])
def test_per_token_times_that_are_equal_are_one_time(values, kind):
    """TI2V-5B's [B, L] times with one value are the same function as [B]."""
    model = tiny.harmoview(reference_timestep=kind)
    once = out(model, **values)
    values["timestep"] = values["timestep"][:, None].expand(2, 3 * 4 * 3)
    assert torch.allclose(out(model, **values), once, atol=2e-6)


def test_the_new_parts_learn_whatever_is_computed_again():
    """The gradients are the same bit for bit, and proxy and MFI have them."""
    grads = []
    for kind in get_args(Recompute):
        model = tiny.harmoview().train()
        recompute(model, kind)
        values = tiny.inputs()
        values["reference_mask"][:, 0, :3] = False
        model(**values).sample.square().mean().backward()
        grads.append({name: p.grad for name, p in model.named_parameters()})
    for name in NEW_PARTS:
        assert grads[0][name].abs().sum() > 0
    for other in grads[1:]:
        assert all(torch.equal(grads[0][name], other[name]) for name in other)


@pytest.mark.parametrize("present", [True, False])
def test_every_parameter_has_a_gradient_whatever_is_shown(present):
    """Ranks that show other views must reduce the same set of gradients."""
    model, values = tiny.harmoview().train(), tiny.inputs()
    values["reference_mask"][:] = present
    model(**values).sample.square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("kind", ["shared", "zero"])
def test_bfloat16_is_close_to_float32(tmp_path, values, kind):
    """Loaded in bf16, norms and time embedding in fp32 as Wan keeps them, forward works."""
    tiny.harmoview(reference_timestep=kind).save_pretrained(tmp_path)
    exact = HarmoViewTransformer3DModel.from_pretrained(tmp_path)
    half = HarmoViewTransformer3DModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.condition_embedder.time_embedder.linear_1.weight.dtype == torch.float32
    assert half.proxy_token.dtype == torch.bfloat16
    values["reference_mask"][:, 1] = False
    low = {k: v.bfloat16() if v.is_floating_point() else v for k, v in values.items()}
    low["timestep"] = values["timestep"]
    result = out(half, **low)
    assert result.dtype == torch.bfloat16
    assert (result.float() - out(exact, **values)).abs().max() < 0.1


def test_saving_and_loading_keeps_every_weight_and_setting(tmp_path, values):
    """A round trip through diffusers' folder gives the same weights, settings and output."""
    model = tiny.harmoview(seed=5, identity_gap=3, reference_timestep="zero")
    with torch.no_grad():
        model.proxy_token.add_(1)
    model.save_pretrained(tmp_path)
    again = HarmoViewTransformer3DModel.from_pretrained(tmp_path)
    state, loaded = model.state_dict(), again.state_dict()
    assert state.keys() == loaded.keys() >= set(NEW_PARTS)
    assert all(torch.equal(state[name], loaded[name]) for name in state)
    assert again.layout == model.layout
    assert torch.equal(out(model, **values), out(again, **values))


def test_a_plain_wan_is_refused_by_from_pretrained(tmp_path):
    """Its new parts would be left without values, so the message points to from_wan."""
    tiny.wan().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="from_wan"):
        HarmoViewTransformer3DModel.from_pretrained(tmp_path)


def test_the_names_that_the_libraries_match_are_kept():
    """Blocks are found by class name, context parallelism by module name, caches by class."""
    model = tiny.harmoview()
    names = {type(module).__name__ for module in model.modules()}
    assert set(model._repeated_blocks) <= names
    assert set(model._no_split_modules) <= names
    assert model._cp_plan == WanTransformer3DModel._cp_plan
    assert {name for name in model._cp_plan if name} <= {name for name, _ in model.named_modules()}


def test_first_block_cache_with_threshold_zero_changes_nothing(values):
    """diffusers' caches know the subclassed block."""
    model = tiny.harmoview()
    before = out(model, **values)
    model.enable_cache(FirstBlockCacheConfig(threshold=0.0))
    with model.cache_context("full"):
        assert torch.equal(out(model, **values), before)


@pytest.mark.parametrize("kind", ["shared", "zero"])
def test_regional_compilation_takes_each_block_as_one_graph(values, kind):
    """compile_repeated_blocks finds the blocks by name and traces them without a break."""
    values["reference_mask"][0, 1] = False
    model = tiny.harmoview(reference_timestep=kind)
    before = out(model, **values)
    model.compile_repeated_blocks(backend="eager", fullgraph=True)
    assert all(block._compiled_call_impl is not None for block in model.blocks)
    assert torch.allclose(out(model, **values), before, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "billions"),
    [
        ({}, 14.288),
        ({"in_channels": 48, "out_channels": 48, "num_attention_heads": 24, "ffn_dim": 14336,
          "num_layers": 30}, 5.000),
        ({"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}, 1.419),
    ],
    ids=["A14B", "5B", "1.3B"],
)  # fmt: skip
def test_real_sizes_are_wan_plus_the_new_parts(config, billions):
    """On meta: Wan's published sizes, a proxy token, a linear layer, a vector an identity."""
    with torch.device("meta"):
        model = HarmoViewTransformer3DModel(**config)
    width = model.config.num_attention_heads * 128
    new = {name: p.numel() for name, p in model.named_parameters() if name in NEW_PARTS}
    assert sum(new.values()) == width + 5120 * width + width + 2 * width
    rest = sum(p.numel() for p in model.parameters()) - sum(new.values())
    assert round(rest / 1e9, 3) == billions


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"reference_latents": torch.zeros(2, 3, 7, 16, 4, 4),
          "reference_mask": torch.ones(2, 3, 7)}, "identities"),
        ({"reference_latents": torch.zeros(2, 2, 6, 16, 4, 4)}, "reference_latents must be"),
        ({"reference_mask": torch.ones(2, 2, 6)}, "reference_mask must be"),
        ({"encoder_hidden_states_image": torch.zeros(2, 1, 4, 128)}, "image features must be"),
        ({"reference_latents": None}, "need reference_latents"),
    ],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_refused(values, wrong, says):
    """A wrong shape is named, not broadcast."""
    with pytest.raises(ValueError, match=says):
        tiny.harmoview()(**{**values, **wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"absent_views": "zeros"},
        {"absent_views": "gray"},
        {"reference_timestep": "late"},
        {"yaws": (-30, 30)},
        {"identities": 0},
        {"video_gap": -1},
        {"image_dim": 64},
    ],
)
def test_settings_that_do_not_fit_are_refused(wrong):
    """A model that could not run is not built."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        tiny.harmoview(**wrong)
