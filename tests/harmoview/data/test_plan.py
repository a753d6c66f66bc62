"""What a phase trains on, what is held out, and an order that does not depend on who reads it."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from encoded import write_encoded
from hypothesis import given
from hypothesis import strategies as st

from harmoview.data.encoded import EncodedShards
from harmoview.data.plan import BatchPlan, best, chosen, held_out, plan_of
from harmoview.encode.manifest import clip_of


@pytest.fixture
def data(tmp_path):
    """Twelve samples; every fourth has the frontal view alone; sharpness grows."""
    write_encoded(tmp_path, [6, 6])
    return EncodedShards(str(tmp_path))


def test_phases_choose_by_views_and_scores(data):
    """All; those with views; the best share of those."""
    assert chosen(data, "single_view", 0.3, [0]) == list(range(12))
    multi = [n for n in range(12) if n % 4]
    assert chosen(data, "multi_view", 0.3, [0]) == multi
    curated = chosen(data, "curated", 0.3, [0])
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
    windows = [f"{key}@{start:07d}" for key in keys for start in (0, 4000)]
    clips = [clip_of(windows[n]) for n in held_out(windows, 0.25, 10)]
    assert sorted(clips) == sorted(2 * list(out))
    assert not held_out(["only"], 0.5, 10)
    assert held_out(["a", "b", "a"], 0.5, 10) in ({0, 2}, {1})  # of two folders


def test_a_plan_keeps_the_groups_of_the_index(data):
    """Frames, sides and identities."""
    assert plan_of(data, [3, 4], 1, 0).groups == {3: (9, 32, 32, 1), 4: (9, 32, 32, 1)}


def plan(groups, size=2, seed=0, step=1, folders=None, weights=None):
    keys = {number: f"key-{number}" for number in range(len(groups))}
    made = {n: (9, 8, 8, group) for n, group in enumerate(groups)}
    return BatchPlan(keys, made, size, seed, step, folders or {}, weights or {})


GROUPS = st.lists(st.integers(1, 3), min_size=1, max_size=30)


@given(GROUPS, st.integers(1, 4), st.integers(1, 4), st.integers(0, 9))
def test_a_group_is_gone_through_again_and_again_and_a_step_is_of_one(groups, size, step, seed):
    """For any mixture and any sizes: full micro-batches, and each sample once in its group's epoch.

    However far the stream has come, no sample of a group was seen twice more than another.
    """
    made = plan(groups, size, seed, step)
    found = list(islice(made.stream(), 60 // step * step))
    assert all(len(batch.samples) == size for batch in found)
    for first in range(0, len(found), step):
        of_step = {groups[n] for batch in found[first : first + step] for n in batch.samples}
        assert len(of_step) == 1
    seen = [(e, n) for b in found for e, n in zip(b.epochs, b.samples, strict=True)]
    assert len(set(seen)) == len(seen)
    times = Counter(n for _, n in seen)
    for group in set(groups):
        counts = [times[n] for n in range(len(groups)) if groups[n] == group]
        assert max(counts) - min(counts) <= 1


@given(GROUPS, st.integers(1, 3), st.integers(0, 60))
def test_the_stream_can_begin_anywhere(groups, step, start):
    """What comes after `start`, also within a step, is what would have come."""
    made = plan(groups, step=step)
    assert list(islice(made.stream(start), 10)) == list(islice(made.stream(), start, start + 10))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 9))
def test_groups_come_in_proportion_to_their_samples(one, two, seed):
    """At every moment within three steps of what their shares would be."""
    made = plan([1] * one + [2] * two, size=1, seed=seed)
    first = np.cumsum([batch.samples[0] < one for batch in islice(made.stream(), 300)])
    expected = np.arange(1, 301) * one / (one + two)
    assert np.abs(first - expected).max() < 3


@given(st.integers(1, 12), st.floats(0.1, 3), st.integers(0, 9))
def test_the_weight_of_a_folder_says_how_often_its_samples_come(count, weight, seed):
    """Beside another folder of ten: within an epoch and over many, evenly among them."""
    numbers = range(count + 10)
    folders = {n: int(n >= count) for n in numbers}
    made = plan([1] * len(numbers), 1, seed, folders=folders, weights={0: weight})
    (group,) = made.members
    wanted = max(1, round(count * weight))
    times = Counter(n for epoch in range(7) for n in made.epoch(group, epoch))
    assert all(times[n] == 7 for n in numbers if n >= count)
    own = [times[n] for n in range(count)]
    assert sum(own) == 7 * wanted
    assert max(own) - min(own) <= 1


@given(st.integers(1, 8), st.integers(0, 8), st.sampled_from([0.5, 1.0, 2.0]), st.integers(0, 9))
def test_sets_of_references_of_a_span_take_turns(spans, alone, weight, seed):
    """A span with two counts as one sample; over the epochs each set comes as often, to one."""
    names = [f"a{n}{more}@0001000" for n in range(spans) for more in ("", "+other")]
    keys = dict(enumerate([*names, *(f"b{n}@0001000" for n in range(alone))]))
    made = BatchPlan(keys, {n: (9, 8, 8, 1) for n in keys}, 1, seed, weights={0: weight})
    (group,) = made.members
    assert made.length(group) == max(1, round((spans + alone) * weight))
    times = Counter(n for epoch in range(8) for n in made.epoch(group, epoch))
    assert times.total() == 8 * made.length(group)
    assert all(abs(times[2 * n] - times[2 * n + 1]) <= 1 for n in range(spans))
    of_spans = [times[2 * n] + times[2 * n + 1] for n in range(spans)]
    every = of_spans + [times[n] for n in keys if n >= 2 * spans]
    assert max(every) - min(every) <= 1


def test_epochs_and_seeds_have_orders_of_their_own():
    """The same seed and epoch have the same order, others another one."""
    made, other = plan([1] * 20), plan([1] * 20, seed=1)
    (group,) = made.members
    assert made.epoch(group, 0) == plan([1] * 20).epoch(group, 0)
    orders = [p.epoch(group, e) for p in (made, other) for e in (0, 1)]
    assert len(set(map(str, orders))) == 4


def test_neighbours_in_the_shards_are_shuffled_apart():
    """Over 1000 samples the order correlates with the place in the shards by less than 0.1."""
    made = plan([1] * 1000)
    order = made.epoch(*made.members, 0)
    assert abs(np.corrcoef(order, range(1000))[0, 1]) < 0.1


def test_a_plan_needs_samples():
    """And micro-batches of at least one."""
    with pytest.raises(ValueError, match="no samples"):
        plan([])
    with pytest.raises(ValueError, match="at least 1"):
        plan([1], size=0)
