"""Laws of the bound and the score by which references are chosen."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.faces.base import Face
from datapipe.prepare.frontal import WEIGHTS, FrontalBound, Measured
from datapipe.record import Pose

BOUND = FrontalBound()
IMAGE = np.zeros((300, 400, 3), np.uint8)
FACE = Face((100, 100, 220, 220), np.zeros((5, 2), np.float32), 0.9, Pose(0, 0, 0))
GOOD = Measured(FACE, 200.0, 0.25, 0.7)
ANGLES = st.floats(-90, 90)


def posed(yaw: float, pitch: float) -> Measured:
    return replace(GOOD, face=replace(FACE, pose=Pose(yaw, pitch, 0)))


def test_the_weights_are_shares():
    """They sum to one, so that the score is between 0 and 1."""
    assert sum(WEIGHTS.values()) == pytest.approx(1)


@given(ANGLES, ANGLES)
def test_turning_to_either_side_counts_alike(yaw, pitch):
    """The score and the bound see no difference between left and right."""
    assert posed(yaw, pitch).merit(BOUND) == posed(-yaw, pitch).merit(BOUND)
    left, right = posed(yaw, pitch).face, posed(-yaw, pitch).face
    assert BOUND.frontal(left, IMAGE) == BOUND.frontal(right, IMAGE)


@given(st.floats(0, 14), st.floats(0.01, 1))
def test_each_part_counts_in_its_direction(yaw, more):
    """Straighter, sharper, larger, wider open and more certain is better."""
    base = replace(posed(yaw + more, 5), size=150.0, sharpness=0.2, eyes=0.5)
    merit = base.merit(BOUND)
    better = [
        replace(base, face=replace(base.face, pose=Pose(yaw, 5, 0))),
        replace(base, face=replace(base.face, pose=Pose(yaw + more, 4, 0))),
        replace(base, face=replace(base.face, score=0.95)),
        replace(base, sharpness=0.22),
        replace(base, size=160.0),
        replace(base, eyes=0.6),
    ]
    assert all(other.merit(BOUND) > merit for other in better)


@given(ANGLES, ANGLES, st.floats(0, 1), st.floats(0, 2), st.floats(0, 4000))
def test_the_score_is_between_0_and_1(yaw, pitch, eyes, sharp, size):
    """For any measurement."""
    measured = replace(posed(yaw, pitch), eyes=eyes, sharpness=sharp, size=size)
    assert 0 <= measured.merit(BOUND) <= 1


@pytest.mark.parametrize(
    ("yaw", "pitch", "frontal"),
    [(15, 0, True), (-15, 0, True), (15.01, 0, False), (0, -20, True), (0, 20.01, False)],
)
def test_the_bound_holds_at_its_edge(yaw, pitch, frontal):
    """At the bound is inside, just over it is not."""
    assert BOUND.frontal(posed(yaw, pitch).face, IMAGE) is frontal


def test_a_face_must_be_measured_and_in_the_picture():
    """No pose, or more than a tenth outside: no reference."""
    assert not BOUND.frontal(replace(FACE, pose=None), IMAGE)
    assert BOUND.frontal(replace(FACE, box=(-10, 100, 110, 220)), IMAGE)
    assert not BOUND.frontal(replace(FACE, box=(-14, 100, 106, 220)), IMAGE)
    assert not BOUND.frontal(replace(FACE, box=(500, 400, 600, 500)), IMAGE)


@pytest.mark.parametrize(
    "wrong", [{"max_yaw": 0}, {"max_pitch": 91}, {"min_face": 100}, {"min_sharpness": 0.3}]
)
def test_bounds_that_cannot_be_judged_are_refused(wrong):
    """ValueError names the setting."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FrontalBound(**wrong)
