"""Thresholds by yaw: their promises, on crowds whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from filters.calibrate.comparisons import comparisons, interval, people
from filters.calibrate.identity import (
    STEP,
    area,
    calibrate,
    false_accepts,
    threshold_for,
    true_accepts,
)
from tests.filters.calibrate.crowd import crowd

DRAWS = 200
FAR = 0.05


def compared(embedded, same_person=1.0):
    return comparisons(embedded, people(embedded.references, same_person))


def found(count, seed, **options):
    (at,) = compared(crowd(count, seed, **options))
    (one,) = calibrate([at], FAR, 0.0)
    return at, one


@pytest.fixture(scope="module")
def everyone():
    """Impostor and genuine cosines of a crowd so large that it is the truth."""
    (at,) = compared(crowd(1200, 987))
    return np.sort(at.impostor), np.sort(at.genuine)


def over(ordered, threshold):
    return 1 - np.searchsorted(ordered, threshold) / len(ordered)


def test_the_stated_intervals_hold_the_truth_about_everyone_else(everyone):
    """The rate that a threshold has among all people is within its interval in 95 % of draws.

    So are the threshold with the wanted rate, and the true-accept rate. 90 % are asked for here:
    fewer than 180 of 200 has a chance of 0.2 % where 95 % are right.
    """
    impostor, genuine = everyone
    exact = np.quantile(impostor, 1 - FAR)
    held = np.zeros(3)
    for seed in range(DRAWS):
        _, one = found(40, seed)
        rates = over(impostor, one.threshold), over(genuine, one.threshold)
        held += [
            one.far.low <= rates[0] <= one.far.high,
            one.threshold_low <= exact <= one.threshold_high,
            one.tar.low <= rates[1] <= one.tar.high,
        ]
    assert held.min() >= 0.9 * DRAWS


def test_pairs_counted_as_independent_would_promise_too_much(everyone):
    """Why people are counted: an interval over pairs misses the truth in every other draw."""
    held = 0
    for seed in range(DRAWS):
        at, one = found(40, seed)
        hits = int(np.sum(at.impostor >= one.threshold))
        low, high = stats.binomtest(hits, len(at.impostor)).proportion_ci(0.95, "exact")
        held += low <= over(everyone[0], one.threshold) <= high
    assert held < 0.6 * DRAWS


def test_videos_of_the_same_people_do_not_narrow_the_interval(everyone):
    """Four videos each of 20 people hold the truth as 20 people do, once they are recognised."""
    impostor, held = everyone[0], 0
    for seed in range(50):
        embedded = crowd(20, seed, videos=4)
        who = replace(
            people(embedded.references, 1.0),
            label=np.arange(80) // 4,
            alike=(np.arange(80)[:, None] // 4) == (np.arange(80) // 4),
        )
        (one,) = calibrate(comparisons(embedded, who), FAR, 0.0)
        assert one.people == 20
        held += one.far.low <= over(impostor, one.threshold) <= one.far.high
    assert held >= 45


def test_the_area_under_the_curve_of_a_blind_recogniser_is_a_half():
    """Its interval holds 0.5 in 95 % of draws, so the rules seldom ask where there is no power."""
    rng, asked = np.random.default_rng(5), 0
    for seed in range(DRAWS):
        embedded = crowd(30, seed)
        views = rng.permutation(crowd(30, seed + 5000).views)
        (one,) = calibrate(compared(replace(embedded, views=views)), FAR, 0.0)
        asked += one.asked == "asked"
    assert asked <= 0.1 * DRAWS


@settings(max_examples=40)
@given(st.integers(3, 9), st.integers(0, 999), st.sampled_from([0.5, 0.9, 1.0]))
def test_leaving_a_person_out_is_leaving_out_all_their_comparisons(count, seed, same_person):
    """The quick jackknife is the plain one: every figure again without each person."""
    (at,) = compared(crowd(count, seed, videos=2), same_person)
    at = replace(at, genuine=np.round(at.genuine, 1), impostor=np.round(at.impostor, 1))
    if not len(at.impostor):
        return
    threshold = float(np.median(at.impostor))

    def plainly(figure):
        without = []
        for person in range(at.groups):
            impostor = (at.reference_person != person) & (at.view_person != person)
            genuine = at.genuine_person != person
            value = figure(at.genuine[genuine], at.impostor[impostor])
            if value is not None:
                without.append(value)
        return interval(figure(at.genuine, at.impostor), np.array(without))

    def roc_area(genuine, impostor):
        if not len(genuine) or not len(impostor):
            return None
        gaps = genuine[:, None] - impostor
        return float(np.mean((gaps > 0) + 0.5 * (gaps == 0)))

    def rate(cosines):
        return float(np.mean(cosines >= threshold)) if len(cosines) else None

    for quick, figure in (
        (area(at), roc_area),
        (false_accepts(at, threshold), lambda _, impostor: rate(impostor)),
        (true_accepts(at, threshold), lambda genuine, _: rate(genuine)),
    ):
        slow = plainly(figure)
        assert (quick.value, quick.low, quick.high) == pytest.approx(
            (slow.value, slow.low, slow.high), abs=1e-6
        )


@given(st.lists(st.integers(-10000, 10000), min_size=1, max_size=200), st.floats(0.0, 1.0))
def test_the_threshold_is_the_least_with_the_wanted_rate(cosines, far):
    """No more than the wanted share reaches it; one step lower, more would."""
    cosines = np.sort(np.array(cosines) / 10000)
    threshold = threshold_for(cosines, far)
    assert np.mean(cosines >= threshold) <= far + 1e-9
    lower = round(threshold - STEP, 4)
    assert far >= 1 - 1e-9 or np.mean(cosines >= lower) > far


def test_nothing_is_asked_beyond_the_first_yaw_without_power():
    """A curve that begins again behind a gap would rest on chance."""
    (near,) = compared(crowd(30, 1, noise=0.6))
    (blind,) = compared(crowd(30, 1, noise=40.0))
    at = [replace(near, yaw=0), replace(blind, yaw=45), replace(near, yaw=60)]
    asked = {one.yaw: one for one in calibrate(at, FAR, 0.5)}
    assert [one.asked for one in asked.values()] == ["asked", "no_power", "beyond"]
    assert "45" in asked[60].why


def test_a_yaw_at_which_too_few_right_views_pass_is_not_asked():
    """The same cosines are asked or not by the share of the right people that may be lost."""
    at, one = found(40, 2)
    share = one.tar.value
    for least, expected in ((share - 0.01, "asked"), (share + 0.01, "no_power")):
        (judged,) = calibrate([at], FAR, least)
        assert judged.asked == expected


def test_too_few_people_are_told_with_the_number_needed():
    """The message has the number there is and the number the rate needs."""
    (at,) = compared(crowd(30, 0))
    (one,) = calibrate([at], 0.001, 0.0)
    assert one.asked == "too_few"
    assert "30 different people" in one.why
    assert "56" in one.why
