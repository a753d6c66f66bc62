"""Shares and their intervals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from filters.calibrate.comparisons import crossed_share, people_needed, share


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=30))
def test_an_interval_holds_its_share(counts):
    """From 0 to 1, low to high, whatever the counts."""
    hits = [min(pair) for pair in counts]
    tried = [max(pair) for pair in counts]
    if sum(tried) == 0:
        return
    found = share(hits, tried)
    assert found.value == pytest.approx(sum(hits) / sum(tried))
    assert 0 <= found.low <= found.value <= found.high <= 1


@given(st.integers(4, 60), st.data())
def test_one_trial_a_person_is_nearly_clopper_pearson(people, data):
    """With one trial each the interval is the textbook's, wider for the unknown variance."""
    hits = data.draw(st.integers(1, people - 1))
    found = share([1] * hits + [0] * (people - hits), [1] * people)
    exact = stats.binomtest(hits, people).proportion_ci(0.95, "exact")
    assert found.low <= exact.low + 1e-9
    assert found.high >= exact.high - 1e-9
    assert found.high - found.low <= 2.5 * (exact.high - exact.low)


def test_saying_everything_ten_times_teaches_nothing():
    """Ten equal trials a person are worth one."""
    hits = np.array([1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0])
    once, often = share(hits, np.ones(12)), share(10 * hits, np.full(12, 10))
    assert (often.low, often.high) == pytest.approx((once.low, once.high))


def test_all_hits_are_not_certainty():
    """Twenty of twenty leave room below, and no more than one trial a person does."""
    found = share(np.ones(20), np.ones(20))
    assert (found.value, found.high) == (1, 1)
    assert 0.75 < found.low < stats.binomtest(20, 20).proportion_ci(0.95, "exact").low


def test_a_pair_counts_once_in_the_share():
    """A comparison is of two people and is still one comparison."""
    assert crossed_share([1, 1, 0], [2, 2, 2]).value == pytest.approx(1 / 3)


def test_rarer_accepts_need_more_people():
    """Three over the rate comparisons, each person with every other; at least twenty people."""
    assert [people_needed(far) for far in (0.1, 0.01, 0.001, 1e-6)] == [20, 20, 56, 1733]
    for far in (0.001, 1e-4, 1e-5):
        needed = people_needed(far)
        assert needed * (needed - 1) >= 3 / far > (needed - 1) * (needed - 2)
