import shutil

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import load_file

from datapipe.errors import UserError
from datapipe.record import YAWS
from lora_engine.flux.settings import FluxSettings
from lora_engine.flux.synthesizer import FluxSynthesizer
from tests.training.checkpoints import tensors
from training.quantize import check_quantize, quantize

KINDS = ["fp8", "nf4"]
FILE = "pytorch_lora_weights.safetensors"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def base(tiny, tiny_base, tmp_path_factory):
    """A tiny Kontext with rows of 64 weights, as many as share a scale in 4 bits."""
    folder = tmp_path_factory.mktemp("base") / "wide"
    shutil.copytree(tiny_base, folder)
    torch.manual_seed(0)
    wide = FluxTransformer2DModel(**{**tiny["TRANSFORMER"], "num_attention_heads": 4})
    wide.save_pretrained(folder / "transformer")
    return str(folder)


def loaded(resolution=None, **settings):
    how = FluxSettings(denoising_steps=2, **settings)
    synthesizer = FluxSynthesizer(how, resolution=resolution)
    synthesizer.setup()
    return synthesizer


def transformer_of(synthesizer):
    return synthesizer._denoiser._pipe.transformer


def blocks(transformer):
    """The linear layers of its blocks by name."""
    modules = transformer.named_modules()
    return {n: m for n, m in modules if "blocks." in n and isinstance(m, torch.nn.Linear)}


def bytes_of(transformer):
    """Of the linear layers in its blocks, with their scales."""
    total = 0
    for layer in blocks(transformer).values():
        weight = layer.weight
        parts = [weight]
        if hasattr(weight, "qdata"):  # torchao
            parts = [weight.qdata, weight.scale]
        if hasattr(weight, "quant_state"):  # bitsandbytes
            parts += [weight.quant_state.absmax]
        total += sum(part.numel() * part.element_size() for part in parts)
    return total


@pytest.mark.parametrize(("kind", "share"), [("fp8", 0.75), ("nf4", 0.35)])
def test_blocks_shrink_and_embedders_do_not(base, kind, share):
    """Of bfloat16; rows of 64 weights make the scales of fp8 dear, those of FLUX are 3,072 long."""
    transformer = FluxTransformer2DModel.from_pretrained(
        f"{base}/transformer", dtype=torch.bfloat16
    )
    before, embedder = bytes_of(transformer), transformer.x_embedder.weight.clone()
    quantize(transformer, kind, CPU, learns=False)
    assert bytes_of(transformer) < share * before
    assert torch.equal(transformer.x_embedder.weight, embedder)
    assert transformer.dtype == torch.bfloat16


@pytest.mark.parametrize(("kind", "rounding"), [("fp8", 0.04), ("nf4", 0.12)])
def test_what_is_quantised_is_the_base_with_the_adapter_fused(base, run, portrait, kind, rounding):
    """Every layer of the blocks does what the fused one does but for rounding, and makes views."""
    lora = str(run(base=base, learning_rate=0.05, ema=0.0))
    small, fused, alone = (
        loaded(base=base, lora=lora, quantize=kind),
        loaded(base=base, lora=lora),
        loaded(base=base, resolution=32),
    )
    off, away = [], []
    with torch.no_grad():
        for name, layer in blocks(transformer_of(small)).items():
            probe = torch.eye(layer.in_features)
            expected = transformer_of(fused).get_submodule(name)(probe)
            off.append(float((layer(probe) - expected).norm() / expected.norm()))
            without = transformer_of(alone).get_submodule(name)(probe)
            away.append(float((without - expected).norm() / expected.norm()))
    assert 0 < min(off) <= max(off) < rounding
    assert max(away) > 3 * rounding
    views = small(portrait, YAWS, range(7))
    assert not np.array_equal(views, fused(portrait, YAWS, range(7)))


@pytest.mark.parametrize(("kind", "two_pass"), [("fp8", True), ("nf4", False)])
def test_a_lora_learns_on_a_quantised_base(base, run, kind, two_pass):
    """It moves the way it would on the whole base, but for rounding."""
    small, whole = (
        load_file(run(name, base=base, quantize=name, groups=2, reference_kv=two_pass) / FILE)
        for name in (kind, "none")
    )
    moved, should = (
        torch.cat([one[name].flatten() for name in sorted(one) if "lora_B" in name])
        for one in (small, whole)
    )
    assert not torch.equal(moved, should)
    assert torch.nn.functional.cosine_similarity(moved, should, dim=0) > 0.8


@pytest.mark.parametrize("kind", KINDS)
def test_what_this_machine_cannot_do_is_named_before_anything_is_loaded(base, monkeypatch, kind):
    """A package that is not there, a device that has no kernels."""
    with pytest.raises(UserError, match=f"--quantize {kind}.*not on mps"):
        check_quantize(kind, torch.device("mps"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[quantize\]'"):
        FluxSynthesizer(FluxSettings(base, quantize=kind)).inputs()


def test_rows_too_short_for_nf4_are_refused(tiny_base):
    """bitsandbytes would multiply them wrongly, without a word."""
    transformer = FluxTransformer2DModel.from_pretrained(tiny_base / "transformer")
    with pytest.raises(UserError, match="rows of 32 weights"):
        quantize(transformer, "nf4", CPU, learns=False)


def test_provenance_tells_how_the_base_is_held(base):
    """So that views by a quantised base are not taken for those by a whole one."""
    made = [
        FluxSynthesizer(FluxSettings(base, quantize=kind)).provenance() for kind in ("none", "fp8")
    ]
    assert [one["quantize"] for one in made] == ["none", "fp8"]
    assert "torchao" in made[1]["versions"]


@pytest.mark.slow
def test_the_8_bit_optimiser_resumes_bit_for_bit(base, run):
    """Its blockwise state is in the checkpoint; large enough tensors have one of 8 bits."""
    how = {"base": base, "rank": 64, "optimizer": "adamw8bit"}
    whole = run("whole", steps=3, **how)
    run("parts", steps=1, **how)
    parts = run("parts", steps=3, resume=True, **how)
    kept = tensors(whole / "checkpoints", 3)
    assert any(t.dtype == torch.uint8 for n, t in kept.items() if n.startswith("optimizer."))
    assert (whole / FILE).read_bytes() == (parts / FILE).read_bytes()
