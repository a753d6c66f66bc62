"""References: each picture in its slot, encoded as a one-frame clip; absent slots never leak."""

from __future__ import annotations

import pytest
import tiny
import torch

from harmoview.model.injection import FrontalEncoder
from harmoview.model.layout import ReferenceLayout
from harmoview.model.references import (
    References,
    blank_absent,
    encode_references,
    fill_gray,
    fill_proxy,
    normalized_latents,
    patchify,
)

CPU = torch.device("cpu")
PEOPLE = [{0: tiny.portrait(1), 90: tiny.portrait(2)}, {-30: tiny.portrait(3)}]


def encode(people, vae=None, encoder=None, **layout):
    vae = vae or tiny.vae()
    return encode_references(vae, encoder, people, ReferenceLayout(**layout), 32, CPU)


def test_each_view_is_in_the_slot_of_its_yaw():
    """Present where there is a picture, and equal to that picture's own latents."""
    vae = tiny.vae()
    references = encode(PEOPLE, vae)
    assert references.latents.shape == (1, 2, 7, 16, 4, 4)
    assert references.mask[0].nonzero().tolist() == [[0, 3], [0, 6], [1, 2]]
    for identity, yaw, slot in ((0, 0, 3), (0, 90, 6), (1, -30, 2)):
        alone = encode([{yaw: PEOPLE[identity][yaw]}], vae)
        assert torch.equal(references.latents[0, identity, slot], alone.latents[0, 0, slot])


@torch.no_grad()
def test_a_picture_is_frame_zero_of_a_clip_that_starts_with_it():
    """So references and video live in one latent space."""
    vae = tiny.vae()
    clip = torch.rand(1, 3, 9, 32, 32) * 2 - 1
    whole, one = normalized_latents(vae, clip), normalized_latents(vae, clip[:, :, :1])
    assert torch.allclose(whole[:, :, :1], one, atol=1e-5)


@torch.no_grad()
def test_latents_have_wans_normalisation():
    """Undone, they are the mode of the VAE's distribution."""
    vae = tiny.vae()
    video = torch.rand(2, 3, 1, 32, 32) * 2 - 1
    mean, std = (torch.tensor(v).view(1, 16, 1, 1, 1) for v in
                 (vae.config.latents_mean, vae.config.latents_std))  # fmt: skip
    mode = vae.encode(video).latent_dist.mode()
    assert torch.allclose(normalized_latents(vae, video) * std + mean, mode, atol=1e-5)


def test_features_belong_to_the_frontal_views():
    """One row an identity; without any frontal view there are none."""
    encoder = FrontalEncoder(tiny.tower(), 0, 56)
    features = encode(PEOPLE, encoder=encoder).features
    assert features.shape == (1, 2, 4, 128)
    assert torch.allclose(features[0, 0], encoder([PEOPLE[0][0]])[0], atol=1e-5)
    assert encode(PEOPLE[1:], encoder=encoder).features is None


def test_the_null_reference_keeps_the_layout():
    """Same latents, same shape, nothing present."""
    references = encode(PEOPLE)
    null = references.absent()
    assert not null.mask.any()
    assert null.latents.shape == references.latents.shape
    assert references.mask.any()


def test_references_repeat_over_a_batch_or_are_refused():
    """One sample's for many, never a batch that does not divide."""
    references = encode(PEOPLE)
    assert references.repeat(3).mask.shape == (3, 2, 7)
    three = References(torch.zeros(3, 1, 7, 16, 4, 4), torch.ones(3, 1, 7, dtype=torch.bool))
    with pytest.raises(ValueError, match="3 samples"):
        three.repeat(4)


@pytest.mark.parametrize(("people", "says"), [([], "identities"), ([{0: 1}] * 3, "identities"),
                                              ([{}], "no view"), ([{45: 1}], "45")])  # fmt: skip
def test_people_that_do_not_fit_the_slots_are_refused(people, says):
    """Too many, none, empty or at another angle."""
    with pytest.raises(ValueError, match=says):
        encode(people)


MASK = torch.tensor([[[True, False, True]]])


def test_a_proxy_fills_every_patch_of_an_absent_slot_and_no_other():
    """One token, replicated."""
    tokens, token = torch.randn(1, 1, 3, 4, 8), torch.randn(8)
    filled = fill_proxy(tokens, MASK, token)
    assert torch.equal(filled[MASK], tokens[MASK])
    assert torch.equal(filled[0, 0, 1], token.expand(4, 8))


def test_gray_fills_every_place_of_an_absent_slot_and_no_other():
    """One number a channel."""
    latents = torch.randn(1, 1, 3, 2, 4, 4)
    filled = fill_gray(latents, MASK, [0.25, -0.5])
    assert torch.equal(filled[MASK], latents[MASK])
    assert torch.equal(filled[0, 0, 1, :, 0, 0], torch.tensor([0.25, -0.5]))
    assert (filled[0, 0, 1].std(dim=(1, 2)) == 0).all()


def test_a_blank_slot_forgets_even_nan():
    """Present slots are untouched."""
    latents = torch.randn(1, 1, 3, 2, 4, 4)
    dirty = latents.clone()
    dirty[0, 0, 1] = float("nan")
    assert torch.equal(blank_absent(dirty, MASK), blank_absent(latents, MASK))


@torch.no_grad()
def test_a_view_is_embedded_as_a_clip_of_one_frame():
    """The same patches as Wan makes of a video with one frame."""
    model = tiny.harmoview()
    latents = torch.randn(2, 1, 3, 16, 4, 6)
    tokens = patchify(latents, model.patch_embedding)
    clip = model.patch_embedding(latents[1, 0, 2][None, :, None]).flatten(2).transpose(1, 2)
    assert tokens.shape == (2, 1, 3, 6, tiny.WIDTH)
    assert torch.allclose(tokens[1, 0, 2], clip[0], atol=1e-6)
