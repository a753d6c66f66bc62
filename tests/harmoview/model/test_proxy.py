"""Absent slots: what stands in them is the proxy, or grey, never what they held."""

from __future__ import annotations

import tiny
import torch

from harmoview.model import proxy

MASK = torch.tensor([[[True, False, True]]])


def test_a_proxy_fills_every_patch_of_an_absent_slot_and_no_other():
    """One token, replicated."""
    tokens, token = torch.randn(1, 1, 3, 4, 8), torch.randn(8)
    filled = proxy.fill_proxy(tokens, MASK, token)
    assert torch.equal(filled[MASK], tokens[MASK])
    assert torch.equal(filled[0, 0, 1], token.expand(4, 8))


def test_gray_fills_every_place_of_an_absent_slot_and_no_other():
    """One number a channel."""
    latents = torch.randn(1, 1, 3, 2, 4, 4)
    filled = proxy.fill_gray(latents, MASK, [0.25, -0.5])
    assert torch.equal(filled[MASK], latents[MASK])
    assert torch.equal(filled[0, 0, 1, :, 0, 0], torch.tensor([0.25, -0.5]))
    assert (filled[0, 0, 1].std(dim=(1, 2)) == 0).all()


def test_a_blank_slot_forgets_even_nan():
    """Present slots are untouched."""
    latents = torch.randn(1, 1, 3, 2, 4, 4)
    dirty = latents.clone()
    dirty[0, 0, 1] = float("nan")
    assert torch.equal(proxy.blank_absent(dirty, MASK), proxy.blank_absent(latents, MASK))


@torch.no_grad()
def test_a_view_is_embedded_as_a_clip_of_one_frame():
    """The same patches as Wan makes of a video with one frame."""
    model = tiny.harmoview()
    latents = torch.randn(2, 1, 3, 16, 4, 6)
    tokens = proxy.patchify(latents, model.patch_embedding)
    clip = model.patch_embedding(latents[1, 0, 2][None, :, None]).flatten(2).transpose(1, 2)
    assert tokens.shape == (2, 1, 3, 6, tiny.WIDTH)
    assert torch.allclose(tokens[1, 0, 2], clip[0], atol=1e-6)
