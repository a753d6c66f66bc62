import json

import pytest
import torch
from diffusers import FluxKontextPipeline, FluxTransformer2DModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from datapipe.errors import UserError
from datapipe.record import YAWS
from lora_engine.flux.adapter import (
    adapter_file,
    add_lora,
    keep_input_dtype,
    load_adapter,
    read_header,
    turbo_shapes,
)
from lora_engine.flux.base import base_shapes, check_adapter_fits, find_base
from lora_engine.flux.settings import TARGETS
from training.learned import learning


@pytest.fixture
def transformer(tiny_base):
    return FluxTransformer2DModel.from_pretrained(tiny_base / "transformer")


def predict(transformer, dtype=torch.float32):
    draw = torch.Generator().manual_seed(0)
    return transformer(
        hidden_states=torch.randn(1, 4, 16, generator=draw).to(dtype),
        encoder_hidden_states=torch.randn(1, 3, 32, generator=draw).to(dtype),
        pooled_projections=torch.randn(1, 32, generator=draw).to(dtype),
        timestep=torch.tensor([0.5], dtype=dtype),
        guidance=torch.ones(1, dtype=dtype),
        txt_ids=torch.zeros(3, 3),
        img_ids=torch.zeros(4, 3),
        return_dict=False,
    )[0]


def test_fresh_lora_leaves_the_base_unchanged(transformer):
    """B is zero, so the output is the base's, bit for bit, and every target is trained."""
    before = predict(transformer)
    transformer.requires_grad_(False)
    add_lora(transformer, 4, 4.0, TARGETS)
    assert torch.equal(predict(transformer), before)
    names = learning(transformer)
    assert all(any(target in name for name in names) for target in TARGETS)
    assert all("lora_" in name for name in names)


def test_stock_pipeline_loads_it_bit_equal_to_us(tiny_base, transformer, make_adapter):
    """load_lora_weights and our loading give the same function."""
    lora = make_adapter(alpha=7.0)
    pipe = FluxKontextPipeline.from_pretrained(tiny_base)
    before = predict(pipe.transformer)
    pipe.load_lora_weights(lora)
    load_adapter(transformer, adapter_file(lora))
    assert torch.equal(predict(pipe.transformer), predict(transformer))
    assert not torch.equal(predict(transformer), before)


def test_every_program_scales_it_alike(tiny_base, transformer, make_adapter):
    """Folded into B, alpha is seen by diffusers, and by programs that know `.alpha` tensors only,
    which find none and add B A as it is; both give the weights that were trained."""
    scaled = load_file(adapter_file(make_adapter(alpha=7.0, name="scaled")))
    plain = load_file(adapter_file(make_adapter(alpha=2.0, name="plain")))  # alpha is the rank
    pipe = FluxKontextPipeline.from_pretrained(tiny_base)
    pipe.load_lora_weights(str(adapter_file(make_adapter(alpha=7.0, name="scaled")).parent))
    pipe.fuse_lora()
    before, fused = transformer.state_dict(), pipe.transformer.state_dict()
    layers = [name.removesuffix(".lora_A.weight") for name in scaled if ".lora_A." in name]
    assert layers
    for layer in layers:
        change = scaled[f"{layer}.lora_B.weight"] @ scaled[f"{layer}.lora_A.weight"]
        trained = plain[f"{layer}.lora_B.weight"] @ plain[f"{layer}.lora_A.weight"] * 7 / 2
        own = layer.removeprefix("transformer.")
        by_diffusers = fused[f"{own}.base_layer.weight"] - before[f"{own}.weight"]
        assert torch.allclose(change, trained, atol=1e-5)
        assert torch.allclose(change, by_diffusers, atol=1e-5)


def test_only_settings_that_are_not_the_default_are_in_the_header(make_adapter):
    """So another version of peft, with more fields or fewer, can read them."""
    with safe_open(adapter_file(make_adapter()), framework="pt") as file:
        settings = json.loads(file.metadata()["lora_adapter_metadata"])
    assert sorted(settings) == [
        "transformer.lora_alpha", "transformer.r", "transformer.target_modules",
    ]  # fmt: skip


def test_inputs_need_no_cast_to_the_precision_of_the_lora(transformer):
    """Under autocast outputs and gradients are the same bits without."""
    transformer.to(torch.bfloat16).requires_grad_(False)
    torch.manual_seed(0)
    add_lora(transformer, 2, 2.0, TARGETS)
    for parameter in learning(transformer).values():
        parameter.data = torch.randn(parameter.shape) / 8

    def run():
        transformer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16), torch.enable_grad():
            out = predict(transformer, torch.bfloat16)
        torch.autograd.backward(out.float().square().sum())
        return [out, *(p.grad.clone() for p in learning(transformer).values())]

    cast = run()
    keep_input_dtype(transformer)
    assert all(torch.equal(a, b) for a, b in zip(cast, run(), strict=True))


def test_saved_weights_are_those_that_were_trained(transformer, make_adapter):
    """Every tensor of the file is on the transformer after loading, unchanged."""
    file = adapter_file(make_adapter())
    load_adapter(transformer, file)
    loaded = {n: p for n, p in transformer.named_parameters() if "lora_" in n}
    with safe_open(file, framework="pt") as stored:
        names = list(stored.keys())
        assert len(names) == len(loaded)
        for name in names:
            own = name.removeprefix("transformer.").replace(".weight", ".default.weight")
            assert torch.equal(stored.get_tensor(name), loaded[own])


def test_header_tells_what_it_was_made_for(make_adapter):
    """Written and read again it is the same."""
    header = read_header(adapter_file(make_adapter("two-pass")))
    assert header.reference_mode == "two-pass"
    assert header.yaws == YAWS
    assert header.targets == TARGETS
    assert len(header.prompts) == 7


def test_foreign_adapters_are_refused(tmp_path):
    """A LoRA without our header has unknown prompts."""
    save_file({"transformer.x.lora_A.weight": torch.zeros(1, 1)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="not written by"):
        read_header(adapter_file(str(tmp_path / "a.safetensors")))


def test_header_of_another_version_is_refused(tmp_path):
    """Unknown fields are named, not ignored."""
    header = {"harmoview": json.dumps({"base": "x", "colour": 1})}
    save_file({"x.lora_A": torch.zeros(1)}, tmp_path / "a.safetensors", header)
    with pytest.raises(UserError, match="another version"):
        read_header(tmp_path / "a.safetensors")


def test_an_adapter_without_its_prompts_is_refused(make_adapter, tmp_path):
    """It would not be known what turns a head."""
    file = adapter_file(make_adapter())
    with safe_open(file, framework="pt") as stored:
        about = stored.metadata()
    header = json.loads(about["harmoview"]) | {"prompts": []}
    save_file(
        load_file(file), tmp_path / "a.safetensors", about | {"harmoview": json.dumps(header)}
    )
    with pytest.raises(UserError, match="has 0 prompts for 7 yaws"):
        read_header(tmp_path / "a.safetensors")


def test_only_safetensors_are_read(tmp_path):
    """A pickle is refused by its name, and a broken file by its content."""
    (tmp_path / "a.bin").write_bytes(b"x")
    with pytest.raises(UserError, match="only safetensors"):
        adapter_file(str(tmp_path / "a.bin"))
    (tmp_path / "a.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(UserError, match="not a readable"):
        read_header(adapter_file(str(tmp_path / "a.safetensors")))


def test_absent_adapter_is_named(tmp_path):
    """The message says which file to give."""
    with pytest.raises(UserError, match=r"pytorch_lora_weights\.safetensors"):
        adapter_file(str(tmp_path))


def test_a_turbo_lora_may_have_the_names_of_other_trainers(tiny_base, transformer, tmp_path):
    """One of sd-scripts' gets diffusers' names, keeps its alpha, and is checked like another."""
    torch.manual_seed(0)
    down, up, alpha = torch.randn(2, 32), torch.randn(96, 2), torch.tensor(6.0)
    name = "lora_unet_double_blocks_0_img_attn_qkv"
    file = tmp_path / "turbo.safetensors"
    parts = {"lora_down.weight": down, "lora_up.weight": up, "alpha": alpha}
    save_file({f"{name}.{part}": tensor for part, tensor in parts.items()}, file)
    base = find_base(str(tiny_base))
    check_adapter_fits(file, base, base_shapes(base), "--turbo", turbo_shapes(file))
    key = "transformer_blocks.0.attn.to_k.weight"
    before = transformer.state_dict()[key].clone()
    load_adapter(transformer, file)
    transformer.fuse_lora()
    transformer.unload_lora()
    expected = up[32:64] @ down * 6 / 2
    assert torch.allclose(transformer.state_dict()[key] - before, expected, atol=1e-4)

    save_file(
        {f"{name}.lora_down.weight": down[:, 1:].contiguous(), f"{name}.lora_up.weight": up}, file
    )
    with pytest.raises(UserError, match=r"--turbo .*: made for another base"):
        check_adapter_fits(file, base, base_shapes(base), "--turbo", turbo_shapes(file))
    save_file({"model.layer.lora_down.weight": down, "model.layer.lora_up.weight": up}, file)
    with pytest.raises(UserError, match=r"--turbo .*: not a LoRA of FLUX"):
        turbo_shapes(file)
    parts |= {"dora_scale": torch.ones(96, 1)}
    save_file({f"{name}.{part}": tensor for part, tensor in parts.items()}, file)
    with pytest.raises(UserError, match=r"--turbo .*: a DoRA"):
        turbo_shapes(file)
