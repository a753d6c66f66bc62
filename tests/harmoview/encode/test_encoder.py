"""The models' outputs are those of diffusers' and transformers' own code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from transformers import AutoTokenizer, UMT5EncoderModel

from datapipe.errors import UserError
from harmoview.data.encoded import padded
from harmoview.encode.encoder import Encoder, base_recipe
from harmoview.encode.settings import EncodeSettings
from harmoview.tiny import save_base

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["1.3B", "5B"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def base(kind, tmp_path_factory):
    return str(save_base(tmp_path_factory.mktemp("models") / "wan", kind))


@pytest.fixture(scope="module")
def encoder(base):
    settings = EncodeSettings(base, "none", ("9x64x96",), reference_size=64, text_length=12,
                              stored="float32")  # fmt: skip
    return Encoder(settings, CPU)


def test_a_base_that_lacks_files_is_refused_with_their_names(tmp_path):
    """A transformer alone is none, whoever asks for the base's recipe."""
    tiny_base = save_base(tmp_path)
    (tiny_base / "model_index.json").unlink()
    with pytest.raises(UserError, match=r"there is no model_index\.json"):
        base_recipe(str(tiny_base))


def test_clips_become_normalised_latents_of_the_bases_own_vae(base, kind, encoder):
    """(mode - mean) / std, a quarter of the frames after the first, an 8th or 16th of the sides."""
    draw = np.random.default_rng(0)
    frames = draw.integers(0, 256, (9, 64, 96, 3), np.uint8)
    vae = AutoencoderKLWan.from_pretrained(base, subfolder="vae")
    pixels = torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 127.5 - 1
    with torch.no_grad():
        mode = vae.encode(pixels).latent_dist.mode()
    mean, std = (torch.tensor(n).view(1, -1, 1, 1, 1) for n in
                 (vae.config.latents_mean, vae.config.latents_std))  # fmt: skip
    found = encoder.video(frames)
    assert torch.allclose(found, ((mode - mean) * (1 / std))[0], atol=1e-5)
    assert found.shape == ((16, 3, 8, 12) if kind == "1.3B" else (48, 3, 4, 6))


def test_the_rate_is_the_bases(kind, encoder):
    """16 frames a second, 24 for TI2V-5B."""
    assert encoder.frames.fps == (16 if kind == "1.3B" else 24)


@pytest.mark.parametrize("caption", ["", "hello", "much longer than twelve tokens", "é &amp; ＡＢ"])
def test_texts_are_umt5s_up_to_the_mask_and_zeros_behind(base, encoder, caption):
    """As Wan takes them: mended, cut at the most tokens, without what padding would have given."""
    tokenizer = AutoTokenizer.from_pretrained(base, subfolder="tokenizer")
    model = UMT5EncoderModel.from_pretrained(base, subfolder="text_encoder").eval()
    mended = {"é &amp; ＡＢ": "é & AB"}.get(caption, caption)
    inputs = tokenizer(mended, padding="max_length", max_length=12, truncation=True,
                       return_tensors="pt")  # fmt: skip
    with torch.no_grad():
        whole = model(inputs.input_ids, inputs.attention_mask).last_hidden_state[0]
    count = int(inputs.attention_mask.sum())
    found = encoder.text(caption)
    assert found.shape == (count, 32)
    assert torch.allclose(found, whole[:count], atol=1e-5)
    assert not padded([found], 12)[0, count:].any()
