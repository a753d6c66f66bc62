"""A model from a checkpoint: what training exports, what Wan's makers name, what ComfyUI maps."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from diffusers import WanPipeline, WanTransformer3DModel
from encoded import write_encoded
from safetensors.torch import load_file

from harmoview.checkpoint import load_expert
from harmoview.model.transformer import HarmoViewTransformer3DModel
from harmoview.model.wan_names import PREFIX
from harmoview.tiny import save_base
from harmoview.train.checks import check_and_claim
from harmoview.train.settings import TrainSettings
from harmoview.train.train import train
from jobs import export
from training.learned import checkpoints


def run(place, out, **changes):
    how = TrainSettings(
        base=str(place / "wan"), out=out, phases="1", steps=3, batch=2, warmup=0, holdout=0.0,
        learning_rate=1e-2, ema=0.5, checkpoint_every=1, keep=3, device="cpu", loader_workers=0,
        rank=2, alpha=6, **changes,
    )  # fmt: skip
    claim = check_and_claim(how, str(place / "encoded"), 1, resume=False)
    assert train(how, str(place / "encoded"), claim, lambda: False, lambda *_: None) == 3
    return out


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("place")
    save_base(root / "wan")
    write_encoded(root / "encoded", [4])
    return root


@pytest.fixture(scope="module")
def full(place, tmp_path_factory):
    """A run that trained everything, with all of its checkpoints kept."""
    return run(place, tmp_path_factory.mktemp("full"))


@pytest.fixture(scope="module")
def parts(place, tmp_path_factory):
    """A run that trained the new parts and a LoRA."""
    return run(place, tmp_path_factory.mktemp("parts"), train_set="new_parts_and_lora")


def exported(capsys, *words):
    assert export.main([str(word) for word in words]) == 0
    return Path(capsys.readouterr().out.strip())


def outputs(model, *more):
    values = tiny.inputs()
    names = ("hidden_states", "timestep", "encoder_hidden_states", *more)
    with torch.no_grad():
        return model.eval()(**{name: values[name] for name in names}).sample


REFERENCES = ("reference_latents", "reference_mask", "encoder_hidden_states_image")


def test_as_many_checkpoints_stay_as_are_wanted(full):
    """The latest ones."""
    assert checkpoints(full / "checkpoints") == [1, 2, 3]


def test_the_latest_checkpoint_gives_the_model_that_training_exported(full, parts, place, capsys):
    """Whole or in parts, weight for weight; an earlier step and the last weights differ."""
    for out in (full, parts):
        folder = exported(capsys, out)
        assert folder == out / "export" / "transformer"
        for file in (out / "model" / "transformer").glob("*.safetensors"):
            own, other = load_file(file), load_file(folder / file.name)
            assert own.keys() == other.keys()
            assert all(torch.equal(own[name], other[name]) for name in own)
    expected = outputs(load_expert(full / "model", "", "transformer"), *REFERENCES)
    for way in (["--step", 1], ["--weights", "last"]):
        exported(capsys, full, *way, "--out", full / "other")
        model = load_expert(full / "other", "", "transformer")
        assert not torch.allclose(outputs(model, *REFERENCES), expected, atol=1e-5)


@pytest.mark.parametrize("form", ["comfy", "single-file"])
def test_a_whole_model_in_one_file_is_one_of_wans(full, place, capsys, form):
    """diffusers reads it as a checkpoint of Wan's makers; the new parts are in one form only."""
    file = exported(capsys, full, "--format", form)
    names = load_file(file).keys()
    assert any(name.startswith(PREFIX) for name in names) == (form == "single-file")
    where = str(place / "wan" / "transformer")
    # diffusers knows Wan's parameters only
    plain = {name: value for name, value in load_file(file).items() if name[:10] != PREFIX}
    again = WanTransformer3DModel.from_single_file(plain, config=where)
    own = HarmoViewTransformer3DModel.from_pretrained(full / "model" / "transformer")
    assert torch.equal(outputs(again), outputs(own))


def test_an_adapter_for_comfyui_is_the_adapter(parts, place, capsys):
    """diffusers reads ComfyUI's names too, and its model then computes the same."""
    file = exported(capsys, parts, "--format", "comfy")
    assert all(name.startswith("diffusion_model.blocks.") for name in load_file(file))
    stock = WanPipeline.from_pretrained(place / "wan")
    stock.load_lora_weights(file)
    own = load_expert(parts / "model", str(place / "wan"), "transformer")
    assert torch.allclose(outputs(stock.transformer), outputs(own), atol=1e-6)
    assert not torch.allclose(outputs(stock.transformer), outputs(tiny.wan(0)), atol=1e-3)


def test_parts_in_one_file_are_the_whole_expert(parts, place, capsys):
    """The adapter is added to the base's weights."""
    file = exported(capsys, parts, "--format", "single-file")
    where = str(place / "wan" / "transformer")
    plain = {name: value for name, value in load_file(file).items() if name[:10] != PREFIX}
    again = WanTransformer3DModel.from_single_file(plain, config=where)
    own = load_expert(parts / "model", str(place / "wan"), "transformer")
    assert torch.allclose(outputs(again), outputs(own), atol=1e-5)


def test_a_step_without_a_checkpoint_is_named_with_those_there_are(full, tmp_path, capsys):
    """Exit status 1; a folder without any says so."""
    assert export.main([str(full), "--step", "9"]) == 1
    assert "1, 2, 3" in capsys.readouterr().err
    assert export.main([str(tmp_path)]) == 1
    assert "no checkpoint" in capsys.readouterr().err
