import numpy as np
import pytest

from lora_engine.views import MeasuredView, PersonViews, grid, summary


def person(measured, key="a"):
    picture = np.full((40, 40, 3), 120, np.uint8)
    return PersonViews(key, picture, {yaw: picture for yaw in measured}, measured)


def test_figures_are_means_over_what_was_measured():
    """Undetected views count against `measured` and for nothing else."""
    people = [
        person({-30: MeasuredView(-20.0, 0.4), 30: MeasuredView(None, None)}),
        person({-30: MeasuredView(-35.0, 0.8), 30: MeasuredView(36.0, 0.6)}, "b"),
    ]
    figures = summary(people)
    assert figures["yaw_mae"] == pytest.approx((10 + 5 + 6) / 3)
    assert figures["identity_cosine"] == pytest.approx(0.6)
    assert figures["measured"] == 0.75
    assert figures["per_yaw"]["+30"] == {
        "yaw_mae": 6.0, "identity_cosine": 0.6, "measured": 0.5, "score": pytest.approx(0.24),
    }  # fmt: skip


def test_nothing_measured_is_none_and_not_zero():
    """There is no figure where there was no face."""
    figures = summary([person({0: MeasuredView(None, None)})])
    assert figures["yaw_mae"] is None
    assert figures["identity_cosine"] is None
    assert figures["measured"] == 0.0
    assert figures["score"] == 0.0


def test_the_grid_has_a_row_a_person_and_a_column_a_yaw():
    """The reference comes first, then the views by yaw."""
    measured = {30: MeasuredView(29.0, 0.5), -30: MeasuredView(None, None)}
    one, two = grid([person(measured)]), grid([person(measured), person(measured)])
    assert two.shape[0] == 2 * one.shape[0]
    assert one.shape[1] == two.shape[1] == pytest.approx(3 * 196, abs=10)
