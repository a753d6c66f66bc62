"""Pose and sharpness from their own distributions."""

import numpy as np
import pytest

from filters.calibrate.bounds import LEAST_VIEWS, bounds


def views(count=400, bias=0.0, bad=0.0, seed=0, yaws=(-60, 0, 60)):
    """Errors of 2 degrees, sharpness about 0.3; a share `bad` is 30 degrees off and blurred."""
    rng = np.random.default_rng(seed)
    yaw = np.repeat(yaws, count)
    error = bias * np.sign(yaw) + rng.normal(0, 2, len(yaw))
    sharp = 0.3 * np.exp(rng.normal(0, 0.1, len(yaw)))
    wrong = rng.random(len(yaw)) < bad
    return yaw, {
        "measured_yaw": yaw + error + 30 * wrong,
        "sharpness": np.where(wrong, 0.4, 1.0) * sharp,
        "sharpness_ratio": np.where(wrong, 0.4, 1.0) * sharp / 0.3,
        "aesthetic": np.log(sharp) - wrong,
    }


def test_good_views_pass():
    """Of clean views, normally spread, at most 1 % is lost to each rule."""
    found = bounds(*views())
    pictures = (*found.sharpness, *found.ratio, *found.aesthetic)
    assert all(one.passing >= 0.99 for one in (*found.pose, *pictures))
    assert found.least_aesthetic == pytest.approx(np.log(0.3) - 0.3, abs=0.05)
    assert found.tolerance == pytest.approx(6.5, abs=1)
    assert found.least_sharpness == pytest.approx(0.3 * np.exp(-0.3), abs=0.02)


def test_bad_views_do_not_move_the_bounds():
    """A tenth of wrong views changes the bounds little, and fails them."""
    clean, soiled = bounds(*views(seed=1)), bounds(*views(seed=1, bad=0.1))
    assert soiled.tolerance <= clean.tolerance + 2
    assert soiled.least_sharpness >= clean.least_sharpness - 0.05
    assert all(o.passing < 0.93 for o in (*soiled.pose, *soiled.sharpness, *soiled.aesthetic))


def test_a_bias_costs_tolerance():
    """The rule is around the yaw asked for, so an estimator that over-reads widens it."""
    found = bounds(*views(bias=5))
    assert {one.yaw: round(one.median) for one in found.pose} == {0: 0, 60: 5}
    assert found.tolerance == pytest.approx(11.5, abs=1)


def test_a_profile_has_one_side():
    """At 90 it is the least |yaw| on the right side, in degrees."""
    yaw, scores = views(yaws=(-90, 90))
    found = bounds(yaw, scores)
    assert found.pose == ()
    assert found.profile_minimum == pytest.approx(84, abs=1)


def test_what_was_not_measured_is_not_judged():
    """Missing scores are left out; with too few left there is no bound."""
    yaw, scores = views(count=LEAST_VIEWS - 1, yaws=(0,))
    found = bounds(yaw, scores)
    assert (found.tolerance, found.least_sharpness, found.profile_minimum) == (None, None, None)
    yaw, scores = views(yaws=(0,))
    scores["sharpness"][::2] = np.nan
    assert bounds(yaw, scores).sharpness[0].views == 200
