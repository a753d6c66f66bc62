"""Laws of estimates: what holds for any sample, and how often the intervals hold the truth."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom

from dataset.plan.intervals import (
    ENOUGH,
    Estimate,
    count_of,
    mean_of,
    share_of,
    sum_of_amounts,
    sum_of_counts,
)


def samples(values, size, times, seed):
    """Seeded samples of a population."""
    generator = np.random.default_rng(seed)
    return [values[generator.choice(len(values), size, replace=False)] for _ in range(times)]


def held(estimates, truth):
    """The share of the estimates whose interval holds the truth."""
    inside = [e.low <= truth <= (math.inf if e.high is None else e.high) for e in estimates]
    return sum(inside) / len(inside)


@st.composite
def draws(draw):
    population = draw(st.integers(1, 60))
    sample = draw(st.integers(1, population))
    return draw(st.integers(0, sample)), sample, population


@given(draws())
def test_a_count_is_in_its_interval_unless_the_draw_was_unlikely(drawn):
    """By its definition: no count outside would have shown so few, or so many, in 2.5 %."""
    seen, sample, population = drawn
    found = count_of(seen, sample, population)
    for count in range(seen, population - (sample - seen) + 1):
        many = hypergeom.sf(seen - 1, population, count, sample)
        few = hypergeom.cdf(seen, population, count, sample)
        likely = min(many, few) > 0.025 + 1e-12  # a border is met by a digit
        assert likely <= (found.low <= count <= found.high)


@given(draws())
def test_what_was_seen_is_in_the_interval(drawn):
    """At least what was seen, at most all but what was seen to be otherwise."""
    seen, sample, population = drawn
    found = count_of(seen, sample, population)
    assert seen <= found.low <= found.high <= population - (sample - seen)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_a_sample_of_everything_is_the_truth(values):
    """Counts, sums, shares and means have no width then."""
    everything, total = len(values), sum(values)
    assert sum_of_counts(values, everything) == Estimate(total, total, total)
    positive = [float(value) for value in values if value]
    amount = sum_of_amounts(positive, len(positive), everything, everything)
    assert amount.low == pytest.approx(total)
    assert amount.value == pytest.approx(total)
    assert amount.high == pytest.approx(total)
    if total:
        share = share_of(total, 3 * everything, everything, 1.0)
        assert share.low == share.value == share.high


def test_what_was_never_seen_has_a_bound_where_one_is_possible():
    """Videos by the rule of three; bytes of something never seen have none."""
    none = count_of(0, 64, 10_000_000)
    assert (none.value, none.low) == (0, 0)
    assert none.high == pytest.approx(10_000_000 * (1 - 0.025 ** (1 / 64)), rel=1e-3)
    assert sum_of_counts([0] * 64, 10_000_000) == none
    assert sum_of_amounts([], 0, 64, 10_000_000) == Estimate(0.0, 0.0, None)
    assert sum_of_amounts([], 0, 64, 64) == Estimate(0.0, 0.0, 0.0)
    assert sum_of_amounts([3.0], 1, 64, 1000).high is None


def test_more_videos_narrow_the_interval():
    """Four times the sample, about half the width."""
    values = np.random.default_rng(1).lognormal(0, 0.5, 4096)
    small, large = (sum_of_amounts(list(values[:n]), n, n, 1_000_000) for n in (256, 1024))
    assert (large.high - large.low) < 0.65 * (small.high - small.low)


@pytest.mark.parametrize(("sample", "population"), [(1, 9), (12, 40), (64, 200)])
def test_counts_hold_the_truth(sample, population):
    """Exactly: whatever the true count, 95 % of all draws give an interval that holds it."""
    found = [count_of(seen, sample, population) for seen in range(sample + 1)]
    for truth in range(population + 1):
        chance = hypergeom.pmf(range(sample + 1), population, truth, sample)
        misses = [not (e.low <= truth <= e.high) for e in found]
        assert chance[misses].sum() <= 0.05 + 1e-9


def test_sums_of_counts_hold_the_truth():
    """Identities: none, one or two in a video."""
    population = np.random.default_rng(3).choice(3, 3000, p=[0.4, 0.45, 0.15])
    found = [sum_of_counts(s.tolist(), 3000) for s in samples(population, 64, 400, 4)]
    assert held(found, population.sum()) >= 0.93


def test_shares_hold_the_truth():
    """Views of one video pass or fail together more often than not."""
    generator = np.random.default_rng(5)
    made = generator.choice(3, 3000, p=[0.3, 0.5, 0.2])
    passed = np.where(generator.random(3000) < 0.7, made, generator.integers(0, made + 1))
    found = []
    for s in samples(np.stack([passed, made], 1), 64, 400, 6):
        hits, of = (int(n) for n in s.sum(0))
        found.append(share_of(hits, of, int((s[:, 1] > 0).sum()), 64 / 3000))
    assert held(found, passed.sum() / made.sum()) >= 0.93


@pytest.mark.parametrize(("reach", "tail"), [(1.0, 0.3), (0.6, 0.3), (0.6, 1.0), (0.1, 0.5)])
def test_amounts_hold_the_truth(reach, tail):
    """Seconds and bytes with long tails, of stages that many or few videos reach."""
    generator = np.random.default_rng(7)
    amounts = generator.lognormal(0, tail, 5000) * (generator.random(5000) < reach)
    found = []
    for s in samples(amounts, 64, 200, 8):
        positive = s[s > 0]
        found.append(sum_of_amounts(positive, len(positive), 64, 5000))
    assert held(found, amounts.sum()) >= 0.90


def test_a_mean_is_the_same_each_time():
    """The bootstrap is seeded."""
    values = np.random.default_rng(9).lognormal(0, 1, 3 * ENOUGH)
    assert mean_of(values, 0.01) == mean_of(values, 0.01)


def test_equal_amounts_have_no_width():
    """Nothing varies, so nothing is unknown but the count."""
    found = mean_of(np.full(20, 2.5), 0.1)
    assert found == Estimate(2.5, 2.5, 2.5)


def test_bounds_add_and_scale_and_an_open_end_stays_open():
    """As sums of work and money are made."""
    one, two = Estimate(2.0, 1.0, 4.0), Estimate(1.0, 0.5, None)
    assert one + one == one * 2 == Estimate(4.0, 2.0, 8.0)
    assert (one + two).high is (two * 3).high is None
