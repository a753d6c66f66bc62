"""Slots and positions: fixed places, gaps where Jump-RoPE puts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmoview.model.layout import ReferenceLayout

GAPS = st.integers(0, 200)


@given(GAPS, GAPS, st.lists(st.integers(0, 7), min_size=1, max_size=2))
def test_blocks_lie_before_the_video_with_exactly_the_gaps(identity_gap, video_gap, views):
    """Positions are distinct, negative, contiguous in a block; the gaps are empty positions."""
    layout = ReferenceLayout(identity_gap=identity_gap, video_gap=video_gap)
    places = layout.positions(views)
    first, second = places[: views[0]], places[views[0] :]
    assert len(places) == sum(views)
    for block in (first, second):
        assert list(block) == list(range(min(block, default=0), min(block, default=0) + len(block)))
    if first:
        assert -max(first) - 1 == video_gap
    if first and second:
        assert min(first) - max(second) - 1 == identity_gap


def test_an_identity_has_the_same_place_alone_and_in_company():
    """The one-person layout is the first block of the two-person layout."""
    layout = ReferenceLayout()
    assert layout.positions([7]) == layout.positions([7, 7])[:7]


def test_without_jump_rope_everything_follows_on():
    """The ablation: blocks and video are one run of integers."""
    layout = ReferenceLayout(jump_rope=False)
    assert sorted(layout.positions([7, 7])) == list(range(-14, 0))


def test_a_views_place_follows_its_yaw():
    """Within a block, position rises with yaw; the frontal slot is yaw 0."""
    layout = ReferenceLayout()
    assert layout.yaws == tuple(sorted(layout.yaws))
    assert layout.yaws[layout.frontal] == 0


@pytest.mark.parametrize("wrong", [{"yaws": (-30, 30)}, {"yaws": (0, 0)}, {"identities": 0},
                                   {"identity_gap": -1}, {"video_gap": -1}])  # fmt: skip
def test_impossible_layouts_are_refused(wrong):
    """The message names the setting."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ReferenceLayout(**wrong)
