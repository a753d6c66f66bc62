"""The block: two rows applied by slices are Wan's modulation, token by token."""

from __future__ import annotations

import tiny
import torch
from diffusers.models.transformers.transformer_wan import WanTransformerBlock


def parts():
    """A block, and what it takes: 6 reference and 4 video tokens."""
    block = tiny.harmoview().blocks[0]
    draw = torch.Generator().manual_seed(0)
    x, text = (torch.randn(2, n, tiny.WIDTH, generator=draw) for n in (10, 5))
    first, second = torch.randn(2, 2, 6, tiny.WIDTH, generator=draw)
    angles = torch.randn(1, 10, 1, 12, generator=draw)
    return block, x, text, first, second, (angles.cos(), angles.sin())


@torch.no_grad()
def test_two_rows_are_wans_row_per_token():
    """The stock block with a row for each of the ten tokens gives the same."""
    block, x, text, first, second, rotary = parts()
    rows = torch.stack([first] * 6 + [second] * 4, dim=1)
    stock = WanTransformerBlock.forward(block, x, text, rows, rotary)
    assert torch.allclose(block(x, text, second, rotary, first, 6), stock, atol=1e-6)
    for count, row in ((10, first), (0, second)):
        whole = WanTransformerBlock.forward(block, x, text, row, rotary)
        assert torch.allclose(block(x, text, second, rotary, first, count), whole, atol=1e-6)


@torch.no_grad()
def test_a_masked_token_is_a_token_that_is_not_there():
    """Masking the first condition token equals cutting it off."""
    block, x, text, _, second, rotary = parts()
    mask = torch.ones(2, 1, 1, 5, dtype=torch.bool)
    mask[..., 0] = False
    masked = block(x, text, second, rotary, None, 0, mask)
    assert torch.allclose(masked, block(x, text[:, 1:], second, rotary), atol=1e-6)


@torch.no_grad()
def test_without_extras_it_is_wans_block_bit_for_bit():
    """The extra arguments at their defaults change no bit."""
    block, x, text, _, second, rotary = parts()
    stock = WanTransformerBlock.forward(block, x, text, second, rotary)
    assert torch.equal(block(x, text, second, rotary), stock)
