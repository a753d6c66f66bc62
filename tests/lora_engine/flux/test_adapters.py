import json
from dataclasses import replace

import pytest
import torch
import yaml
from safetensors.torch import load_file

from datapipe.errors import UserError
from datapipe.files import Folder
from lora_engine.flux.adapter import FILE, adapter_file, read_header
from lora_engine.flux.adapters import CARD, Adapters, card
from lora_engine.flux.settings import TrainLoraSettings


@pytest.fixture
def header(make_adapter):
    return read_header(adapter_file(make_adapter()))


def test_the_latest_and_the_best_stay(header, tmp_path):
    """Of equal scores the first is marked; OUT has the latest; without figures none is the best."""
    out = Folder(tmp_path / "out")
    out.put("prompt_embeddings.safetensors", b"prompts")
    adapters = Adapters(tmp_path / "out", keep=2)
    for step, score in enumerate([None, 0.2, 0.9, None, 0.9, 0.3, None]):
        if score is not None:
            figures = {"yaw_mae": 1, "identity_cosine": 1, "measured": 1, "score": score}
            figures["per_yaw"] = {}
            out.put(f"validation/{step:06d}.json", json.dumps(figures).encode())
        adapters.add(replace(header, steps=step), str(step).encode())
        if step == 0:
            assert adapters.best() is None
    assert adapters.steps() == [2, 5, 6]
    assert (tmp_path / "out/adapters/best").resolve().name == "step-2"
    assert adapter_file(str(tmp_path / "out/adapters/best")).read_bytes() == b"2"
    assert (tmp_path / "out" / FILE).read_bytes() == b"6"
    assert (tmp_path / "out/adapters/step-5/prompt_embeddings.safetensors").is_file()


def test_the_card_says_what_stock_diffusers_needs(header):
    """Its head is YAML, it has every prompt, and a two-pass adapter is not said to be stock."""
    text = card(replace(header, base="black-forest-labs/FLUX.1-Kontext-dev"), None)
    about = yaml.safe_load(text.split("---")[1])
    assert about["base_model"] == "black-forest-labs/FLUX.1-Kontext-dev"
    assert about["license"] == "other"
    assert all(prompt in text for prompt in header.prompts)
    assert "max_sequence_length=512" in text
    assert "base_model" not in card(header, None)  # a folder's name is no name on the hub
    assert "load_lora_weights" not in card(replace(header, reference_mode="two-pass"), None)


def test_a_run_leaves_adapters_that_work(run):
    """A folder of a step holds what synthesis needs, and is what OUT holds after the last."""
    folder = run(steps=3, checkpoint_every=2, keep=1)
    assert sorted(p.name for p in (folder / "adapters").iterdir()) == ["step-3"]
    for name in (FILE, CARD, "prompt_embeddings.safetensors"):
        assert (folder / "adapters/step-3" / name).read_bytes() == (folder / name).read_bytes()


def test_a_training_can_begin_with_an_adapter(run, make_adapter):
    """With next to no learning rate it ends with the weights it began with, alpha folded in."""
    first = make_adapter(alpha=7.0)
    folder = run(init=first, steps=1, ema=0.0, learning_rate=1e-12)
    began, ended = load_file(adapter_file(first)), load_file(folder / FILE)
    assert began.keys() == ended.keys()
    assert all(torch.allclose(began[n], ended[n], atol=1e-6) for n in began)
    moved = load_file(run("moved", init=first, steps=1, ema=0.0, learning_rate=0.1) / FILE)
    assert all(not torch.allclose(began[n], moved[n], atol=1e-3) for n in began)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 4}, "--rank differs: the adapter's is 2"),
        ({"targets": ("attn.to_q",)}, "--targets differs"),
        ({"reference_kv": True}, "--reference-kv differs: the adapter's is concatenated"),
    ],
)
def test_an_adapter_of_another_kind_is_no_beginning(run, make_adapter, changes, message):
    """What differs is named, before anything is loaded or claimed."""
    with pytest.raises(UserError, match=message):
        run(init=make_adapter(), **changes)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_a_run_may_become_longer_where_its_rate_stays(schedule):
    """A falling one would be another from the first step after the warm-up on."""
    settings = TrainLoraSettings("p", "o", "b", schedule=schedule)
    assert ("steps" in settings.may_change) == (schedule == "constant")


@pytest.mark.parametrize(
    "wrong",
    [{"learning_rate": -1.0}, {"alpha": 0.0}, {"clip": 0.0}, {"warmup": -1}, {"keep": 0}],
)
def test_values_out_of_range_name_their_option(wrong):
    """No training begins with a rate that unlearns or a scale that hides the LoRA."""
    (name,) = wrong
    with pytest.raises(ValueError, match="--" + name.replace("_", "-")):
        TrainLoraSettings("p", "o", "b", **wrong)
