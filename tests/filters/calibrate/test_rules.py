"""From a calibration to a rules file."""

from dataclasses import replace

import pytest

from datapipe.record import YAWS
from filters.calibrate.bounds import Bound, Bounds
from filters.calibrate.comparisons import comparisons, people
from filters.calibrate.identity import calibrate
from filters.calibrate.result import calibrated
from filters.rules import AestheticRule
from filters.rules_file import load_rules, to_toml
from tests.filters.calibrate.crowd import crowd

BASE = load_rules(None, yaws=YAWS, recogniser="sface", aesthetic_scorer="brisque")


def at(yaw, noise=0.6):
    embedded = crowd(30, yaw, noise=noise)
    (one,) = comparisons(embedded, people(embedded.references, 1))
    return replace(one, yaw=yaw)


def bound(yaw, value):
    return Bound(yaw, 100, 0.3, value, 0.99)


def test_the_file_is_read_back_as_the_rules(tmp_path):
    """What is written is what `--rules` loads, for the same run."""
    found = calibrate([at(0), at(30), at(60), at(90, noise=40)], 0.05, 0.5)
    by = Bounds((bound(60, 7.3),), bound(90, 81.7), (bound(0, 0.234),), (bound(0, 0.81),))
    rules = calibrated(BASE, "sface", found, by)
    path = tmp_path / "rules.toml"
    path.write_text(to_toml(rules))
    assert load_rules(path, yaws=YAWS, recogniser="sface", aesthetic_scorer="brisque") == rules
    assert (rules.identity.verified_to, rules.identity.judged_to) == (60, 60)
    assert [rules.identity.threshold(one.yaw) for one in found[:3]] == [
        one.threshold for one in found[:3]
    ]
    assert (rules.pose.tolerance, rules.pose.profile_minimum) == (7.5, 81.5)
    assert (rules.sharpness.minimum, rules.sharpness.ratio) == (0.23, 0.81)
    assert rules.aesthetic == BASE.aesthetic


def test_a_scorer_without_thresholds_gets_them(tmp_path):
    """The floor of the views holds for references too, unless these have one of their own."""
    found, by = calibrate([at(0)], 0.05, 0.5), Bounds(aesthetic=(bound(0, -0.234), bound(30, 0.5)))
    pyiqa = replace(BASE, aesthetic=AestheticRule("pyiqa:piqe"))
    assert calibrated(pyiqa, "sface", found, by).aesthetic == AestheticRule(
        "pyiqa:piqe", -0.24, -0.24
    )
    known = calibrated(BASE, "sface", found, by).aesthetic
    assert (known.minimum, known.reference) == (-0.24, BASE.aesthetic.reference)


def test_neighbouring_yaws_still_cannot_pass():
    """However wide the errors, the tolerance stays within half the spacing of the yaws."""
    by = Bounds((bound(30, 40.0),), bound(90, 20.0))
    rules = calibrated(BASE, "sface", calibrate([at(0)], 0.05, 0.5), by)
    assert (rules.pose.tolerance, rules.pose.profile_minimum) == (15, 75)


def test_what_was_not_measured_stays_as_it_was():
    """Without scores only the identity rule changes."""
    rules = calibrated(BASE, "sface", calibrate([at(0)], 0.05, 0.5), Bounds())
    assert replace(rules, identity=BASE.identity) == BASE


def test_without_a_frontal_view_the_curve_is_level_to_the_first():
    """A run need not have views at 0."""
    base = replace(BASE, yaws=(-30, 30), minimum_views=2)
    rules = calibrated(base, "sface", calibrate([at(30)], 0.05, 0.5), Bounds())
    assert rules.identity.threshold(0) == rules.identity.threshold(30)


def test_a_recogniser_without_power_gives_no_rules():
    """Rules that ask nothing would pass everyone."""
    with pytest.raises(ValueError, match="identity"):
        calibrated(BASE, "sface", calibrate([at(0, noise=40)], 0.05, 0.5), Bounds())


def test_views_that_would_have_nothing_to_rest_on_are_refused():
    """Beyond the reach of the recogniser a view rests on a nearer one; there must be one."""
    base = replace(BASE, yaws=(-60, 30, 60), minimum_views=2)
    with pytest.raises(ValueError, match="-60"):
        calibrated(base, "sface", calibrate([at(30), at(60, noise=40)], 0.05, 0.5), Bounds())
