"""Laws of the portrait's frame."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.prepare.frontal import FACE_CENTRE, FACE_SHARE, LEAST_MARGIN, cut, portrait_square

SIDES = st.integers(16, 4096)
PLACES = st.floats(-200, 4096)
FACES = st.tuples(PLACES, PLACES, st.floats(4, 1500), st.floats(4, 1500)).map(
    lambda face: (face[0], face[1], face[0] + face[2], face[1] + face[3])
)


@given(FACES, SIDES, SIDES, st.lists(FACES, max_size=3))
def test_the_square_is_a_square_inside_the_frame(face, width, height, neighbours):
    """Whatever the face, the frame and the neighbours: no border is invented."""
    left, top, right, bottom = portrait_square(face, width, height, neighbours)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert right - left == bottom - top


@given(st.integers(20, 200), st.integers(300, 700), st.integers(300, 700))
def test_a_face_with_room_around_it_has_its_share_and_place(side, x, y):
    """Share and centre are the documented ones."""
    left, top, right, _ = portrait_square((x, y, x + side, y + side), 2000, 2000)
    assert right - left == pytest.approx(side / FACE_SHARE, abs=1)
    assert (x + side / 2 - left) / (right - left) == pytest.approx(0.5, abs=0.02)
    assert (y + side / 2 - top) / (right - left) == pytest.approx(FACE_CENTRE, abs=0.02)


SHARES = st.floats(0, 1)


@given(SIDES, SIDES, st.floats(0.05, 0.6), st.floats(1, 1.6), SHARES, SHARES)
def test_a_face_inside_the_frame_stays_inside_the_square(width, height, size, aspect, x, y):
    """Shifting and shrinking never cut a face."""
    wide = size * min(width, height) / aspect
    high = wide * aspect
    left, top = x * (width - wide), y * (height - high)
    square = portrait_square((left, top, left + wide, top + high), width, height)
    assert square[0] <= left + 1
    assert square[1] <= top + 1
    assert left + wide - 1 <= square[2]
    assert top + high - 1 <= square[3]


@given(st.floats(60, 180), st.floats(-60, 60))
def test_a_neighbour_is_left_out_as_far_as_the_face_allows(across, down):
    """The middle of another face is outside, unless the least square already holds it."""
    face, other = (450, 450, 550, 550), (450 + across, 450 + down, 550 + across, 550 + down)
    left, top, right, bottom = portrait_square(face, 1000, 1000, [other])
    assert right - left >= 100 * LEAST_MARGIN - 1
    x, y = (other[0] + other[2]) / 2, (other[1] + other[3]) / 2
    holds = left + 1 < x < right - 1 and top + 1 < y < bottom - 1
    assert not holds or right - left == pytest.approx(100 * LEAST_MARGIN, abs=1)


@given(st.integers(20, 400), st.integers(100, 900))
def test_a_mirrored_face_has_the_mirrored_square(side, x):
    """Left and right are treated alike, to the rounding of a pixel."""
    plain = portrait_square((x, 300, x + side, 300 + side), 1300, 1000)
    mirrored = portrait_square((1300 - x - side, 300, 1300 - x, 300 + side), 1300, 1000)
    assert plain[0] == pytest.approx(1300 - mirrored[2], abs=1)
    assert plain[1::2] == mirrored[1::2]


def test_a_cut_is_scaled_down_and_never_up():
    """The setting is a bound."""
    image = np.arange(300 * 400 * 3, dtype=np.uint32).astype(np.uint8).reshape(300, 400, 3)
    assert cut(image, (10, 20, 210, 220), 64).shape == (64, 64, 3)
    assert np.array_equal(cut(image, (10, 20, 210, 220), 512), image[20:220, 10:210])
