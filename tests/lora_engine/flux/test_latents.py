import pytest
import torch
from diffusers import AutoencoderKL

from datapipe.files import Folder
from lora_engine.flux import vae
from lora_engine.flux.base import find_base
from lora_engine.flux.latents import LatentCache, mirror, sample_id


@pytest.fixture
def autoencoder(tiny_base):
    return AutoencoderKL.from_pretrained(tiny_base / "vae")


@pytest.fixture
def make(tiny_base, tmp_path):
    def made(data="data", resolution=64, flip=True):
        folder = Folder(tmp_path / "latents")
        return LatentCache(folder, find_base(str(tiny_base)), data, resolution, flip)

    return made


@pytest.fixture
def two(people):
    return [people["subject"]("anna", (200, 100, 50)), people["subject"]("bo", (10, 90, 50))]


def test_latents_are_those_of_their_picture(make, autoencoder, two):
    """Read back by id, in any order, each is what the VAE gives for that frame."""
    cache = make()
    cache.fill(autoencoder, two)
    ids = [sample_id("bo", 60, True), sample_id("bo", -30, False)]
    pictures = [mirror(two[1].frame(60).image()), two[1].frame(-30).image()]
    expected = [vae.encode(autoencoder, vae.pixels(picture, 64))[0] for picture in pictures]
    assert torch.equal(cache.get("bo", ids), torch.stack(expected))


def test_swapped_files_are_noticed(make, autoencoder, two, tmp_path):
    """An entry that lies under another person's name is never used."""
    cache = make()
    cache.fill(autoencoder, two)
    (folder,) = (tmp_path / "latents").iterdir()
    (folder / "anna.safetensors").rename(folder / "bo.safetensors")
    with pytest.raises(RuntimeError, match="anna"):
        cache.get("bo", [sample_id("bo", 0, False)])


def test_damaged_files_are_noticed(make, autoencoder, two, tmp_path):
    """Half a file is not half a truth."""
    cache = make()
    cache.fill(autoencoder, two)
    (folder,) = (tmp_path / "latents").iterdir()
    data = (folder / "bo.safetensors").read_bytes()
    (folder / "bo.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(RuntimeError, match="damaged"):
        cache.get("bo", [sample_id("bo", 0, False)])


def test_filling_goes_on_where_it_stopped(make, autoencoder, two, tmp_path):
    """What is there is not encoded again."""
    cache = make()
    cache.fill(autoencoder, two[:1])
    assert cache.missing(["anna", "bo"]) == ["bo"]
    (file,) = (tmp_path / "latents").rglob("*.safetensors")
    before = file.stat().st_mtime_ns
    cache.fill(autoencoder, two)
    assert cache.missing(["anna", "bo"]) == []
    assert file.stat().st_mtime_ns == before


@pytest.mark.parametrize("other", [{"data": "x"}, {"resolution": 32}, {"flip": False}])
def test_other_data_or_settings_are_another_cache(make, autoencoder, two, other):
    """Latents of other pairs, sizes or mirroring are not taken for these."""
    make().fill(autoencoder, two)
    assert make(**other).missing(["anna", "bo"]) == ["anna", "bo"]
