"""What is said of how alike a corpus's people are."""

import numpy as np
import pytest

from filters.calibrate.comparisons import comparisons, people
from filters.calibrate.identity import CHOSEN_ON, hint, rules_far
from filters.rules_file import load_rules
from tests.filters.calibrate.crowd import crowd


def rule(recogniser):
    yaws = (0, 30)
    return load_rules(
        None, yaws=yaws, recogniser=recogniser, aesthetic_scorer="brisque"
    ).identity  # fmt: skip


def rates(by, seen):
    """At 30 degrees, where other people's cosines are spread evenly up to `seen`."""
    embedded = crowd(40, 1)
    (at,) = comparisons(embedded, people(embedded.references, 1))
    at.impostor[:] = np.linspace(-0.1, seen, len(at.impostor))
    return rules_far(by, [at])


def test_the_rate_is_that_of_the_rules_own_threshold():
    """As many as reach it, with an interval over people."""
    (one,) = rates(rule("sface"), 0.9)
    assert (one.yaw, one.threshold) == (30, 0.55)
    assert one.far.value == pytest.approx(0.35, abs=0.01)
    assert one.far.low < one.far.value < one.far.high


def test_nobody_accepted_is_not_a_rate_of_zero():
    """The interval has an upper end, and a wide one for forty people."""
    (one,) = rates(rule("sface"), 0.3)
    assert (one.far.value, one.far.low) == (0, 0)
    assert 0.02 < one.far.high < 0.2


def test_strangers_and_look_alikes_are_told_apart():
    """By the groups on whom the curve was chosen; another recogniser has none, only its rates."""
    real, alike = CHOSEN_ON["sface"][30]
    by = rule("sface")
    said = {hint(by, rates(by, seen)).split("%")[1] for seen in (real, alike, alike + 0.2)}
    assert len(said) == 3
    own = rule("w600k_r50")
    assert {hint(own, rates(own, seen)).split("%")[1] for seen in (real, alike)} == {" at 30°."}
    assert hint(by, []) == ""
