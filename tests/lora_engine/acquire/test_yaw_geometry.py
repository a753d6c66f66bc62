"""Laws of the head turn's geometry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.record import Pose
from lora_engine.acquire import yaw_geometry

yaws = st.floats(-89, 89)
small = st.floats(-40, 40)


@given(yaws, small, small)
def test_both_names_of_one_rotation_have_one_yaw(yaw, pitch, roll):
    """A face read upside down and facing away is the same face, turned past the profile."""
    assert yaw_geometry.yaw_of(Pose(yaw, pitch, roll)) == yaw
    beyond = yaw_geometry.yaw_of(Pose(yaw, pitch + 180, roll - 180))
    assert abs(abs(beyond) - (180 - abs(yaw))) < 1e-9


@given(st.floats(0.2, 8), st.floats(-40, 40), st.integers(-80, 80))
def test_the_search_closes_in_on_a_yaw_of_a_steady_turn(speed, start, wanted):
    """In a turn of constant speed the wanted frame is the first one proposed."""
    at = {frame: start - 200 * speed + frame * speed for frame in range(0, 401, 20)}
    exact = (wanted - start + 200 * speed) / speed
    proposed = yaw_geometry.next_frames(at, [wanted], set(at))
    if 1 <= exact <= 399 and min(abs(exact - f) for f in at) > 1:
        assert min(abs(frame - exact) for frame in proposed) <= 0.5 + 1e-6


@given(st.dictionaries(st.integers(0, 60), st.floats(-120, 120), min_size=2), st.data())
def test_no_frame_is_proposed_twice(seen, data):
    """Every round brings frames that were not tried, so the search ends."""
    tried = set(seen) | data.draw(st.sets(st.integers(0, 60)))
    assert tried.isdisjoint(yaw_geometry.next_frames(seen, [-90, 0, 90], tried))


def test_a_yaw_that_the_head_does_not_come_near_is_not_looked_for():
    """Half a turn costs nothing on the other side."""
    assert yaw_geometry.next_frames({0: 0.0, 10: 30.0, 20: 0.0}, [-60, 60], set()) == []


@pytest.mark.parametrize("side", [-1, 1])
def test_of_a_profile_the_farthest_frames_are_taken(side):
    """The reading says 95 in all of the stretch; the turning point is in its middle."""
    seen = {f: side * (95.0 if 20 <= f <= 40 else 60.0) for f in range(0, 61, 2)}
    found = yaw_geometry.in_profile(seen, side)
    assert found
    assert all(25 <= frame <= 35 for frame in found)
    assert yaw_geometry.in_profile(seen, -side) == []


def test_a_clip_that_begins_in_profile_has_its_turning_point_there():
    """The half of the stretch that is cut off is as long as the one that is seen."""
    seen = {f: 95.0 if f <= 20 else 60.0 for f in range(0, 41, 2)}
    assert min(yaw_geometry.in_profile(seen, 1)) == 0
    assert max(yaw_geometry.in_profile(seen, 1)) <= 12


@given(st.floats(-95, 95), st.integers(40, 400), st.floats(100, 900), st.floats(100, 500))
def test_squares_of_a_subject_have_one_size_and_lie_inside_the_frame(yaw, face, x, y):
    """Wherever the head goes, and however it turns."""
    side = yaw_geometry.square_side(face, 1000, 600)
    box = (x - face / 2, y - face / 2, x + face / 2, y + face / 2)
    left, top, right, bottom = yaw_geometry.head_square(box, yaw, face, side, (1000, 600))
    assert right - left == bottom - top == side == min(round(face / 0.4), 600)
    assert 0 <= left <= right <= 1000
    assert 0 <= top <= bottom <= 600
