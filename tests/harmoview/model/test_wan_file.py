"""A transformer in one file with Wan's own names is the one in diffusers' folder."""

from __future__ import annotations

import shutil

import pytest
import tiny
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor

from datapipe.errors import UserError
from harmoview.load import load_pipeline
from harmoview.model.transformer import HarmoViewTransformer3DModel
from harmoview.model.wan_names import wan_name
from harmoview.model.weights import load_wan
from harmoview.train.build import build
from harmoview.train.expert_phase import expert_phases
from harmoview.train.settings import TrainSettings
from training.parallel import process_group

DIFFUSERS = "transformer/diffusion_pytorch_model.safetensors"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.save_base(tmp_path_factory.mktemp("base"))


def with_file(base, folder, prefix="", change=lambda weights: weights):
    """The base, whose transformer is in one file with Wan's names after a prefix."""
    shutil.copytree(base, folder)
    weights = load_file(folder / DIFFUSERS)
    (folder / DIFFUSERS).unlink()
    named = {prefix + wan_name(name): value for name, value in weights.items()}
    save_file(change(named), folder / "transformer" / "wan2.1_t2v_1.3B_fp32.safetensors")
    return folder


def same(one, other):
    states = [dict(model.named_parameters()) for model in (one, other)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        whole = [
            x.full_tensor() if isinstance(x, DTensor) else x.dequantize()
            if hasattr(x, "qdata") else x for x in (value, states[1][name])
        ]  # fmt: skip
        assert whole[0].dtype == whole[1].dtype, name
        assert torch.equal(*whole), name
    return True


@pytest.mark.parametrize("prefix", ["", "diffusion_model.", "model.diffusion_model."])
@pytest.mark.parametrize("dtype", [torch.bfloat16, None])
def test_it_loads_as_diffusers_own(base, tmp_path, prefix, dtype):
    """Weight for weight, with those in float32 that Wan keeps there; and as diffusers reads it."""
    folder = with_file(base, tmp_path / "one", prefix)
    assert same(load_wan(str(folder), "transformer", dtype),
                load_wan(str(base), "transformer", dtype))  # fmt: skip
    ours, usual = (
        HarmoViewTransformer3DModel.from_wan(one, subfolder="transformer", dtype=dtype)
        for one in (folder, base)
    )
    assert same(ours, usual)
    if dtype is None and prefix != "diffusion_model.":  # which diffusers does not know
        (file,) = (folder / "transformer").glob("*.safetensors")
        config = str(folder / "transformer")
        assert same(WanTransformer3DModel.from_single_file(str(file), config=config), tiny.wan())


@pytest.mark.parametrize("held", [{}, {"train_set": "lora", "quantize": "fp8"}])
def test_training_begins_from_it(base, tmp_path, held):
    """Read part by part; the weights of every worker are those of diffusers' folder."""
    built = []
    folder = with_file(base, tmp_path / "one", "model.diffusion_model.")
    with process_group(CPU):
        for one in (base, folder):
            how = TrainSettings(base=str(one), out=tmp_path / "out", device="cpu", **held)
            part = expert_phases(how, None)[0]
            built.append(build(how, part, {"vit_dim": None}, CPU, torch.float32))
    assert same(*built)


def test_a_pipeline_takes_the_rest_of_the_base_from_its_folder(base, tmp_path):
    """The expert that no checkpoint has is read from the file as well."""
    (tmp_path / "own").mkdir()
    whole = HarmoViewTransformer3DModel.from_wan(base, subfolder="transformer", vit_dim=None)
    whole.save_pretrained(tmp_path / "own" / "transformer")
    folder = with_file(base, tmp_path / "one")
    pipeline = load_pipeline(str(folder), tmp_path / "own", None, torch.float32).pipeline
    assert same(pipeline.transformer, whole)
    assert pipeline.vae is not None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w: {"double_blocks.0.weight": torch.zeros(1)}, "is no Wan transformer"),
        (lambda w: {**w, "patch_embedding.weight": torch.zeros(24, 36, 1, 2, 2)},
         r"1 weights differ, patch_embedding\.weight .*36.*there.*16"),
        (lambda w: {**w, "img_emb.proj.0.weight": torch.zeros(1)}, r"img_emb\.proj.*none by the"),
        (lambda w: {k: v for k, v in w.items() if "blocks.1." not in k}, r"none there"),
        (lambda w: {**w, "scaled_fp8": torch.zeros(1)}, "scaled to 8 bits"),
    ],
    ids=["another model", "image to video", "more than Wan", "less", "scaled"],
)  # fmt: skip
def test_another_file_is_refused_by_name(base, tmp_path, change, says):
    """In a sentence that says what is there and what the config asks for."""
    folder = with_file(base, tmp_path / "one", change=change)
    with pytest.raises(UserError, match=says):
        load_wan(str(folder), "transformer")


def test_two_files_and_broken_ones_are_refused(base, tmp_path):
    """Which of two is meant is not guessed."""
    folder = with_file(base, tmp_path / "one") / "transformer"
    (folder / "other.safetensors").write_bytes(b"cut off")
    with pytest.raises(UserError, match="leave one of other"):
        load_wan(str(tmp_path / "one"), "transformer")
    (folder / "wan2.1_t2v_1.3B_fp32.safetensors").unlink()
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        load_wan(str(tmp_path / "one"), "transformer")
