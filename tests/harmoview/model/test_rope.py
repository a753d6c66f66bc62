"""Jump-RoPE: Wan's own table, continued to negative times."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from hypothesis import given
from hypothesis import strategies as st

from harmoview.model.layout import ReferenceLayout
from harmoview.model.rope import JumpRotaryPosEmbed, ReferenceGrid, agreement

VIDEO = torch.empty(1, 16, 21, 60, 104)


@pytest.mark.parametrize("head_dim", [12, 128])
def test_the_function_is_wans_table_bit_for_bit(head_dim):
    """On the default grid of 21 x 30 x 52 no bit differs from Wan's precomputed table."""
    wan = WanRotaryPosEmbed(head_dim, (1, 2, 2), 1024)
    rope = JumpRotaryPosEmbed(head_dim, (1, 2, 2), 1024)
    expected = wan(VIDEO)
    for ours in (rope(VIDEO), rope.table(range(21), 30, 52, torch.device("cpu"))):
        assert torch.equal(ours[0], expected[0])
        assert torch.equal(ours[1], expected[1])


def test_references_come_first_and_leave_the_video_alone():
    """The table is that of the references followed by that of the video."""
    rope = JumpRotaryPosEmbed(128, (1, 2, 2), 1024)
    grid = ReferenceGrid(ReferenceLayout().positions([7]), 4, 5)
    cos, sin = rope(VIDEO, grid)
    plain = rope(VIDEO)
    assert torch.equal(cos[:, grid.tokens :], plain[0])
    assert torch.equal(sin[:, grid.tokens :], plain[1])
    assert cos.shape == (1, grid.tokens + 21 * 30 * 52, 1, 128)


@given(st.integers(-300, 300), st.integers(-300, 300), st.integers(-300, 300))
def test_only_differences_of_positions_matter(first, second, shift):
    """Rotated dot products do not change when both positions move by the same amount."""
    rope = JumpRotaryPosEmbed(128, (1, 2, 2), 1024)
    draw = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 22, dtype=torch.complex128, generator=draw)

    def logit(a, b):
        cos, sin = rope.table([a, b], 1, 1, torch.device("cpu"))
        turns = torch.complex(cos, sin)[0, :, 0, :44:2].to(torch.complex128)
        return (q * turns[0] * (k * turns[1]).conj()).sum().real

    assert torch.allclose(logit(first, second), logit(first + shift, second + shift), atol=1e-4)


def test_the_default_gaps_bring_all_bands_under_one_half():
    """No two of identity 0, identity 1 and the video agree by more than 0.5; one step less does."""

    def worst(identity_gap, video_gap):
        layout = ReferenceLayout(identity_gap=identity_gap, video_gap=video_gap)
        places = layout.positions([7, 7])
        near, far, video = places[:7], places[7:], range(21)
        return max(agreement(near, far), agreement(near, video), agreement(far, video))

    chosen = ReferenceLayout()
    assert worst(chosen.identity_gap, chosen.video_gap) <= 0.5
    total = chosen.identity_gap + chosen.video_gap
    assert all(worst(gap, total - 1 - gap) > 0.5 for gap in range(total))


def test_agreement_is_one_at_the_same_place_and_symmetric():
    """Zero offset is full agreement; it falls with distance over the first four positions."""
    assert agreement([5], [5]) == 1.0
    assert agreement([0], [9]) == agreement([9], [0])
    values = [agreement([0], [k]) for k in range(5)]
    assert values == sorted(values, reverse=True)
