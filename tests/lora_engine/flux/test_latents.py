import pytest
import torch
from diffusers import AutoencoderKL

from datapipe.files import Folder
from lora_engine.flux import vae
from lora_engine.flux.base import find_base
from lora_engine.flux.latents import LatentCache, Variety, mirror, sample_id, variant


@pytest.fixture
def autoencoder(tiny_base):
    return AutoencoderKL.from_pretrained(tiny_base / "vae")


@pytest.fixture
def make(tiny_base, tmp_path):
    def made(data="data", resolution=64, flip=True, **variety):
        folder, base = Folder(tmp_path / "latents"), find_base(str(tiny_base))
        return LatentCache(folder, base, data, resolution, flip, Variety(**variety))

    return made


@pytest.fixture
def two(people):
    return [people["subject"]("anna", (200, 100, 50)), people["subject"]("bo", (10, 90, 50))]


def test_latents_are_those_of_their_picture(make, autoencoder, two):
    """Read back by id, in any order, each is what the VAE gives for that frame."""
    cache = make()
    cache.fill(autoencoder, two)
    ids = [sample_id("bo", 0, "yaw+60", True), sample_id("bo", 0, "yaw-30", False)]
    pictures = [mirror(two[1].frame(60).image()), two[1].frame(-30).image()]
    expected = [vae.encode(autoencoder, vae.pixels(picture, 64))[0] for picture in pictures]
    assert torch.equal(cache.get("bo", 0, ids), torch.stack(expected))


def test_every_variant_has_latents_of_its_own(make, autoencoder, two):
    """Those of its pictures, and a subject is there when all of its variants are."""
    variety = {"variants": 2, "crop_zoom": 1.5, "reference_noise": 20.0}
    cache = make(**variety)
    cache.fill(autoencoder, two[:1])
    assert cache.missing(["anna", "bo"]) == ["bo"]
    for number in (0, 1):
        pictures = variant(two[0], number, Variety(**variety))
        names = ("reference", "yaw+30")
        expected = [vae.encode(autoencoder, vae.pixels(pictures[n], 64))[0] for n in names]
        ids = [sample_id("anna", number, name, False) for name in names]
        assert torch.equal(cache.get("anna", number, ids), torch.stack(expected))


def test_swapped_files_are_noticed(make, autoencoder, two, tmp_path):
    """An entry that lies under another person's name is never used."""
    cache = make()
    cache.fill(autoencoder, two)
    (folder,) = (tmp_path / "latents").iterdir()
    (folder / "anna.0.safetensors").rename(folder / "bo.0.safetensors")
    with pytest.raises(RuntimeError, match="anna"):
        cache.get("bo", 0, [sample_id("bo", 0, "yaw+00", False)])


def test_damaged_files_are_noticed(make, autoencoder, two, tmp_path):
    """Half a file is not half a truth."""
    cache = make()
    cache.fill(autoencoder, two)
    (folder,) = (tmp_path / "latents").iterdir()
    data = (folder / "bo.0.safetensors").read_bytes()
    (folder / "bo.0.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(RuntimeError, match="damaged"):
        cache.get("bo", 0, [sample_id("bo", 0, "yaw+00", False)])


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


@pytest.mark.parametrize(
    "other",
    [{"data": "x"}, {"resolution": 32}, {"flip": False}, {"variants": 2}, {"reference_blur": 1.0}],
)
def test_other_data_or_settings_are_another_cache(make, autoencoder, two, other):
    """Latents of other pairs, sizes or mirroring are not taken for these."""
    make().fill(autoencoder, two)
    assert make(**other).missing(["anna", "bo"]) == ["anna", "bo"]
