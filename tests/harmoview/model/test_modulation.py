"""Noise levels: a row a sample, one more for references that are told another level."""

from __future__ import annotations

import tiny
import torch

from harmoview.model import block


@torch.no_grad()
def embed(timestep, kind):
    embedder = tiny.harmoview().condition_embedder
    text = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    return block.embed(embedder, timestep, text, None, kind)


def test_no_tensor_grows_with_the_tokens():
    """Rows are [B, 6, D] whatever the length of the sequence; shared needs no second row."""
    times = torch.tensor([900.0, 100.0])
    shared, zero = embed(times, "shared"), embed(times, "zero")
    assert shared.video.shape == zero.video.shape == zero.references.shape == (2, 6, tiny.WIDTH)
    assert shared.references is None
    assert torch.allclose(shared.video, zero.video, atol=1e-6)


def test_the_references_row_is_the_level_it_says():
    """Zero is the embedding of time 0; shared with a time a token is that of the largest."""
    levels = torch.tensor([[0.0, 700.0, 700.0], [0.0, 300.0, 300.0]])
    zeros = embed(torch.zeros(2), "shared").video
    largest = embed(torch.tensor([700.0, 300.0]), "shared").video
    assert torch.allclose(embed(levels, "zero").references, zeros, atol=1e-6)
    assert torch.allclose(embed(levels, "shared").references, largest, atol=1e-6)
