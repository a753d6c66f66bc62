"""What a phase trains on, what is held out, and an order that does not depend on who reads it."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest
from encoded import write_encoded
from hypothesis import given
from hypothesis import strategies as st

from harmoview.data.encoded import EncodedShards
from harmoview.data.plan import BatchPlan, best, chosen, held_out, plan_of


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


def plan(groups, size=2, seed=0):
    keys = {number: f"key-{number}" for number in range(len(groups))}
    return BatchPlan(keys, {n: (9, 8, 8, group) for n, group in enumerate(groups)}, size, seed)


@given(st.lists(st.integers(1, 3), min_size=1, max_size=40), st.integers(1, 5), st.integers(0, 9))
def test_an_epoch_holds_every_sample_once_in_batches_of_one_group(groups, size, seed):
    """For any mixture of groups and any size of micro-batch."""
    made = plan(groups, size, seed)
    batches = made.epoch(3)
    assert Counter(n for b in batches for n in b.samples) == Counter(range(len(groups)))
    assert all(len({groups[n] for n in batch.samples}) == 1 for batch in batches)
    assert len(batches) == len(made)


@given(st.lists(st.integers(1, 2), min_size=1, max_size=20), st.integers(0, 60))
def test_the_stream_can_begin_anywhere(groups, start):
    """What comes after `start` is what would have come."""
    made = plan(groups)
    assert list(islice(made.stream(start), 10)) == list(islice(made.stream(), start, start + 10))


def test_epochs_and_seeds_have_orders_of_their_own():
    """The same seed and epoch have the same order, others another one."""
    made = plan([1] * 20)
    assert made.epoch(0) == plan([1] * 20).epoch(0)
    orders = [
        [b.samples for b in p.epoch(e)] for p in (made, plan([1] * 20, seed=1)) for e in (0, 1)
    ]
    assert len({str(order) for order in orders}) == 4


def test_neighbours_in_the_shards_are_shuffled_apart():
    """Over 1000 samples the order correlates with the place in the shards by less than 0.1."""
    import numpy as np

    order = [n for b in plan([1] * 1000).epoch(0) for n in b.samples]
    assert abs(np.corrcoef(order, range(1000))[0, 1]) < 0.1


def test_a_plan_needs_samples():
    """And micro-batches of at least one."""
    with pytest.raises(ValueError, match="no samples"):
        plan([])
    with pytest.raises(ValueError, match="at least 1"):
        plan([1], size=0)
