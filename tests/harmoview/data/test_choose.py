"""Which samples a phase trains on, and which are held out."""

from __future__ import annotations

import pytest
from encoded import write_encoded

from harmoview.data.choose import best, chosen, held_out, plan_of
from harmoview.data.encoded import EncodedShards


@pytest.fixture
def data(tmp_path):
    """Twelve samples; every fourth has the frontal view alone; sharpness grows."""
    write_encoded(tmp_path, [6, 6])
    return EncodedShards(str(tmp_path))


def test_phases_choose_by_views_and_scores(data):
    """All; those with views; the best share of those."""
    assert chosen(data, "single_view", 0.3) == list(range(12))
    multi = [n for n in range(12) if n % 4]
    assert chosen(data, "multi_view", 0.3) == multi
    curated = chosen(data, "curated", 0.3)
    assert len(curated) == 3
    assert set(curated) < set(multi)


def test_the_best_are_those_with_the_highest_scores(data):
    """A score that was not measured ranks last."""
    assert best(data, [1, 2, 3], 0.4) == [2, 3]
    assert best(data, [3, 5, 6], 0.4) == [3, 6]  # 5 has no aesthetic score


def test_held_out_samples_are_chosen_by_their_keys(data):
    """The same ones in any order of keys; never all, and at least one when asked."""
    keys = data.keys
    out = {keys[n] for n in held_out(keys, 0.25, 10)}
    turned = list(reversed(keys))
    assert {turned[n] for n in held_out(turned, 0.25, 10)} == out
    assert len(out) == 3
    assert len(held_out(keys, 0.001, 10)) == 1
    assert len(held_out(keys, 0.9, 4)) == 4
    assert not held_out(keys, 0.0, 10)
    assert not held_out(["only"], 0.5, 10)


def test_a_plan_keeps_the_groups_of_the_index(data):
    """Frames, sides and identities."""
    assert plan_of(data, [3, 4], 1, 0).groups == {3: (9, 32, 32, 1), 4: (9, 32, 32, 1)}
