import json
import shutil

import pytest

from datapipe.errors import UserError
from lora_engine.flux.base import SYNTHESIS, find_base


@pytest.fixture
def copy(tiny_base, tmp_path):
    """A base to be damaged."""
    return shutil.copytree(tiny_base, tmp_path / "copy")


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_whole_base_is_accepted(tiny_base):
    """A folder as diffusers saves it passes, with its sizes."""
    base = find_base(str(tiny_base))
    assert (base.latent_channels, base.factor, base.multiple) == (4, 8, 16)


@pytest.mark.parametrize(
    "lost",
    ["vae/config.json", "text_encoder_2/model.safetensors", "scheduler/scheduler_config.json"],
)
def test_missing_component_is_named(copy, lost):
    """The message names the very file."""
    (copy / lost).unlink()
    with pytest.raises(UserError, match=lost):
        find_base(str(copy))


def test_only_what_is_needed_is_asked_for(copy):
    """Synthesis with stored embeddings runs from a base without text encoders."""
    shutil.rmtree(copy / "text_encoder_2")
    assert find_base(str(copy), SYNTHESIS).factor == 8


def test_missing_shard_of_an_index_is_named(copy):
    """An index that lists a file which is not there is not a whole base."""
    (copy / "transformer/diffusion_pytorch_model.safetensors").unlink()
    index = copy / "transformer/diffusion_pytorch_model.safetensors.index.json"
    name = "diffusion_pytorch_model-00002-of-00003.safetensors"
    index.write_text(json.dumps({"weight_map": {"x_embedder.weight": name}}))
    with pytest.raises(UserError, match=name):
        find_base(str(copy))


def test_pickled_weights_are_not_weights(copy):
    """Only safetensors are read."""
    weights = copy / "vae/diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(UserError, match=r"vae/diffusion_pytorch_model\.safetensors"):
        find_base(str(copy))


def test_latent_size_that_does_not_fit_is_named(copy):
    """A VAE of another model is noticed by its channels."""
    edit(copy / "vae/config.json", latent_channels=16)
    with pytest.raises(UserError, match="16 latent channels pack to 64"):
        find_base(str(copy))


def test_text_encoder_of_another_size_is_named(copy):
    """The numbers a token has must agree."""
    edit(copy / "text_encoder_2/config.json", d_model=48)
    with pytest.raises(UserError, match="text_encoder_2 gives 48"):
        find_base(str(copy))


def test_other_pipelines_are_refused(copy):
    """FLUX.1-dev is not Kontext."""
    edit(copy / "model_index.json", _class_name="FluxPipeline")
    with pytest.raises(UserError, match="expected FluxKontextPipeline"):
        find_base(str(copy))


@pytest.mark.parametrize("name", ["/no/such/folder", "nowhere"])
def test_absent_folder_is_named(name):
    """What is neither a folder nor a hub name is said to be so."""
    with pytest.raises(UserError, match="no such folder"):
        find_base(name)


def test_unreachable_hub_name_says_how_to_get_it(tmp_path, monkeypatch):
    """Offline and not in the cache: the message has the command."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="hf download somebody/kontext"):
        find_base("somebody/kontext")


def test_hashes_follow_the_bytes_and_not_the_place(tiny_base, copy):
    """A copy hashes alike; a changed config does not."""
    here, there = find_base(str(tiny_base)), find_base(str(copy))
    assert here.hashes(SYNTHESIS) == there.hashes(SYNTHESIS)
    edit(copy / "scheduler/scheduler_config.json", shift=2.0)
    assert here.hashes(SYNTHESIS) != find_base(str(copy)).hashes(SYNTHESIS)
