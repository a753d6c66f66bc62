"""Loading: a base, a checkpoint and a tower make a pipeline, or the gap is named."""

from __future__ import annotations

import pytest
import tiny
import torch
from diffusers import WanTransformer3DModel
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from datapipe.errors import UserError
from harmoview.checkpoint import save_parts
from harmoview.load import add_loras, check_base, load_frontal_encoder, load_pipeline
from harmoview.model.transformer import HarmoViewTransformer3DModel
from harmoview.model.wan_names import wan_name
from harmoview.pipeline import HarmoViewPipeline

from_wan = HarmoViewTransformer3DModel.from_wan
SMALL = {"vit_dim": tiny.VIT_DIM, "vit_layer": 0, "vit_size": 56, "reference_size": 32}
TEXT = {
    "vocab_size": 200, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 2,
    "rope_parameters": {"rope_type": "default", "mrope_section": [2, 2, 2], "rope_theta": 1e4},
}  # fmt: skip


@pytest.fixture
def vit(tmp_path):
    tiny.tower().save_pretrained(tmp_path / "vit")
    return str(tmp_path / "vit")


def checkpoint(base, folder, experts=("transformer",), **settings):
    for name in experts:
        model = from_wan(base, subfolder=name, **{**SMALL, **settings})
        save_parts(model, folder / name)
    return folder


@pytest.mark.parametrize(("kind", "recipe"), [("1.3B", "Wan2.1-T2V-1.3B"),
                         ("A14B", "Wan2.2-T2V-A14B"), ("5B", "Wan2.2-TI2V-5B")])  # fmt: skip
def test_a_base_brings_its_makers_recipe(tmp_path, vit, kind, recipe):
    """Each base loads with all its experts and is recognised."""
    base = tiny.save_base(tmp_path / "base", kind)
    experts = ("transformer", "transformer_2")[: 2 if kind == "A14B" else 1]
    own = checkpoint(base, tmp_path / "own", experts)
    loaded = load_pipeline(str(base), own, vit)
    assert loaded.recipe.name == recipe
    assert loaded.pipeline.vae.dtype == torch.float32
    assert loaded.pipeline.transformer.proxy_token.dtype == torch.bfloat16
    assert (loaded.pipeline.transformer_2 is not None) == (kind == "A14B")


def test_a_model_brings_the_name_of_its_tower(tmp_path, vit):
    """So that none need be given; where it is no longer there, the message asks for another."""
    base = tiny.save_base(tmp_path / "base")
    own = checkpoint(base, tmp_path / "own", vit_name=vit)
    assert load_pipeline(str(base), own, None).pipeline.frontal_encoder is not None
    moved = checkpoint(base, tmp_path / "moved", vit_name=str(tmp_path / "gone"))
    with pytest.raises(UserError, match="give --vit"):
        load_pipeline(str(base), moved, None)


@pytest.mark.parametrize("trained", ["transformer", "transformer_2"])
def test_the_bases_own_expert_stands_in_for_one_that_was_not_trained(tmp_path, vit, trained):
    """And is named; a checkpoint with neither is refused."""
    base = tiny.save_base(tmp_path / "base", "A14B")
    own = checkpoint(base, tmp_path / "own", (trained,))
    loaded = load_pipeline(str(base), own, vit)
    (stock,) = {"transformer", "transformer_2"} - {trained}
    assert loaded.untrained == (stock,)
    assert type(getattr(loaded.pipeline, stock)) is WanTransformer3DModel
    assert loaded.pipeline.model is getattr(loaded.pipeline, trained)
    with pytest.raises(UserError, match="no trained transformer in"):
        load_pipeline(str(base), tmp_path / "nowhere", vit)


def test_a_lora_is_added_to_the_one_that_was_trained(tmp_path):
    """Both act, on either expert; diffusers alone would switch the trained one off."""
    base = tiny.save_base(tmp_path / "base", "A14B")
    for name in ("transformer", "transformer_2"):
        trained = adapter(from_wan(base, subfolder=name, **{**SMALL, "vit_dim": None}), 1)
        save_parts(trained, tmp_path / "own" / name)
    more = get_peft_model_state_dict(adapter(tiny.wan(), 2))
    HarmoViewPipeline.save_lora_weights(tmp_path / "more", more)
    pipeline = load_pipeline(str(base), tmp_path / "own", None, torch.float32).pipeline
    pipeline.set_progress_bar_config(disable=True)

    def latents():
        draw = torch.Generator().manual_seed(0)
        return pipeline("a walk", "", 32, 32, 5, 6, generator=draw, output_type="latent").frames

    made = [latents()]
    add_loras(pipeline, "transformer", [str(tmp_path / "more")])
    made.append(latents())
    add_loras(pipeline, "transformer_2", [str(tmp_path / "more")])
    made.append(latents())
    pipeline.transformer.set_adapters("added-0")
    made.append(latents())
    pipeline.transformer.set_adapters(["default_0", "added-0"])
    assert torch.equal(latents(), made[2])
    assert not any(torch.equal(made[a], made[b]) for a in range(4) for b in range(a))
    with pytest.raises(UserError, match="nowhere cannot be loaded as a LoRA"):
        add_loras(pipeline, "transformer", ["nowhere"])
    with pytest.raises(UserError, match="finite"):
        add_loras(pipeline, "transformer", [f"{tmp_path / 'more'}@nan"])


def test_a_lora_of_another_size_of_wan_is_refused(tmp_path):
    """With the first layer that does not fit, and in a sentence."""
    base = tiny.save_base(tmp_path / "base")
    pipeline = load_pipeline(
        str(base), checkpoint(base, tmp_path / "own", vit_dim=None), None, torch.float32
    ).pipeline
    wider = get_peft_model_state_dict(adapter(tiny.wan(num_attention_heads=4), 2))
    HarmoViewPipeline.save_lora_weights(tmp_path / "wider", wider)
    with pytest.raises(UserError, match=r"cannot be loaded as a LoRA of Wan: .*size mismatch"):
        add_loras(pipeline, "transformer", [str(tmp_path / "wider")])


def adapter(model, seed):
    torch.manual_seed(seed)
    model.add_adapter(LoraConfig(r=2, target_modules=["attn1.to_v"], init_lora_weights=False))
    return model


def lightx2v(model, biases):
    """A few-step LoRA with the keys of LightX2V's files, and the weights that it stands for.

    Those of Wan2.2-Lightning have an alpha; those of Wan2.1's step distillation have differences of
    biases and norms.
    """
    draw = torch.Generator().manual_seed(7)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    keys = {}
    for name in [name for name in state if ".attn" in name or ".ffn." in name]:
        wan, shape = f"diffusion_model.{wan_name(name)}", state[name].shape
        place = wan.rpartition(".")[0]
        if name.endswith(".weight") and "norm" not in name:
            up = torch.randn(shape[0], 4, generator=draw) / 4
            down = torch.randn(4, shape[1], generator=draw) / 4
            keys |= {f"{place}.lora_down.weight": down, f"{place}.lora_up.weight": up}
            keys |= {} if biases else {f"{place}.alpha": torch.tensor(8.0)}
            state[name] += (1 if biases else 2) * up @ down
        elif biases and "norm" in name:
            keys[f"{place}.diff"] = torch.zeros(shape)
        elif biases:
            keys[f"{place}.diff_b"] = torch.randn(shape, generator=draw)
            state[name] += keys[f"{place}.diff_b"]
    return keys, state


@pytest.mark.parametrize("biases", [False, True])
def test_a_few_step_lora_of_lightx2v_is_its_weights_added(tmp_path, biases):
    """In four steps of one pass each, and so is the file at half its strength."""
    base = tiny.save_base(tmp_path / "base")
    own = checkpoint(base, tmp_path / "own", vit_dim=None)
    pipeline = load_pipeline(str(base), own, None, torch.float32).pipeline
    pipeline.set_progress_bar_config(disable=True)
    model = pipeline.transformer
    before = {name: value.clone() for name, value in model.state_dict().items()}
    keys, merged = lightx2v(model, biases)
    half = {name: (before[name] + value) / 2 for name, value in merged.items()}
    save_file(keys, tmp_path / "few.safetensors")
    passes = []

    def latents():
        passes.clear()
        draw = torch.Generator().manual_seed(0)
        return pipeline("a walk", None, 32, 32, 5, 4, 1.0, generator=draw, output_type="latent",
                        references=[{0: tiny.portrait(1)}]).frames  # fmt: skip

    model.register_forward_hook(lambda *_: passes.append(1))
    expected = []
    for state in (merged, half):
        model.load_state_dict(state)
        expected.append(latents())
    model.load_state_dict(before)
    for strength, wanted in zip(("", "@0.5"), expected, strict=True):
        add_loras(pipeline, "transformer", [f"{tmp_path}/few.safetensors{strength}"])
        assert torch.allclose(latents(), wanted, atol=1e-4)
        assert len(passes) == 4
        pipeline.unload_lora_weights()
    assert not torch.allclose(*expected, atol=1e-2)


@pytest.mark.parametrize("prefix", ["", "visual.", "model.visual."])
def test_the_tower_is_found_in_every_form_of_checkpoint(tmp_path, prefix):
    """Saved alone, or inside a Qwen2.5-VL with the names of either generation."""
    tower = tiny.tower()
    if prefix:
        config = Qwen2_5_VLConfig(vision_config=tiny.tower_config().to_dict(), text_config=TEXT)
        Qwen2_5_VLForConditionalGeneration(config).save_pretrained(tmp_path)
        file = tmp_path / "model.safetensors"
        rest = {k: v for k, v in load_file(file).items() if "visual." not in k}
        own = {prefix + name: value for name, value in tower.state_dict().items()}
        save_file({**rest, **own}, file, metadata={"format": "pt"})
    else:
        tower.save_pretrained(tmp_path)
    loaded = load_frontal_encoder(str(tmp_path), 1, 56)
    state = loaded.tower.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in tower.state_dict().items())


def test_a_model_without_mfi_needs_no_tower(tmp_path):
    """vit none trains and runs without."""
    base = tiny.save_base(tmp_path / "base")
    own = checkpoint(base, tmp_path / "own", vit_dim=None)
    assert load_pipeline(str(base), own, None).pipeline.frontal_encoder is None


def test_a_model_with_mfi_names_what_it_lacks(tmp_path, vit):
    """No tower, no weights there, another tower: each has its sentence."""
    base = tiny.save_base(tmp_path / "base")
    own = checkpoint(base, tmp_path / "own")
    with pytest.raises(UserError, match="give --vit"):
        load_pipeline(str(base), own, None)
    with pytest.raises(UserError, match=r"no vision tower.*config\.json.*hf download"):
        load_pipeline(str(base), own, str(tmp_path))
    with pytest.raises(UserError, match=r"not a Qwen2\.5-VL"):
        load_pipeline(str(base), own, str(base / "text_encoder"))
    other = checkpoint(base, tmp_path / "other", vit_dim=64)
    with pytest.raises(UserError, match="128 numbers a token"):
        load_pipeline(str(base), other, vit)
    as_wide = checkpoint(base, tmp_path / "as wide", vit_tower="0" * 16)
    with pytest.raises(UserError, match=r"another vision tower.*not 0{16}"):
        load_pipeline(str(base), as_wide, vit)


def test_another_kind_of_base_is_refused(tmp_path):
    """An image-to-video Wan, and one whose VAE makes other latents, though the model is whole."""
    base = tiny.save_base(tmp_path / "base")
    own = from_wan(base, subfolder="transformer", **{**SMALL, "vit_dim": None})
    own.save_pretrained(tmp_path / "own" / "transformer")
    tiny.vae(**tiny.VAE_5B).save_pretrained(base / "vae")
    with pytest.raises(UserError, match=r"16 channels, the VAE of .* makes 48"):
        load_pipeline(str(base), tmp_path / "own", None)
    index = base / "model_index.json"
    index.write_text(index.read_text().replace("WanPipeline", "WanImageToVideoPipeline"))
    with pytest.raises(UserError, match="is a WanImageToVideoPipeline"):
        load_pipeline(str(base), tmp_path / "own", None)


@pytest.mark.parametrize("missing", ["model_index.json", "vae/config.json",
                                     "scheduler/scheduler_config.json"])  # fmt: skip
def test_an_incomplete_base_is_named(tmp_path, missing):
    """The missing file, and how to get a whole base."""
    base = tiny.save_base(tmp_path / "base")
    (base / missing).unlink()
    with pytest.raises(UserError, match=f"{missing}.*hf download"):
        check_base(str(base))


def test_a_hub_name_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    """Without network, or with a wrong name: one sentence for base, transformer and tower."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for attempt in (
        lambda: load_pipeline("no-such/base", tmp_path, None),
        lambda: from_wan("no-such/base", subfolder="transformer"),
        lambda: load_frontal_encoder("no-such/tower", 0, 56),
    ):
        with pytest.raises(UserError, match=r"no-such/\w+: there is no such folder.*hf download"):
            attempt()
