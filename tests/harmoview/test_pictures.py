"""Pictures: the middle square, nothing invented."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harmoview.pictures import square


@given(st.integers(8, 90), st.integers(8, 90), st.integers(8, 64))
def test_square_takes_the_middle_without_inventing_pixels(height, width, size):
    """The colours stay within those of the middle square."""
    picture = np.full((height, width, 3), 100, np.uint8)
    side = min(height, width)
    outside = np.ones((height, width), bool)
    top, left = (height - side) // 2, (width - side) // 2
    outside[top : top + side, left : left + side] = False
    picture[outside] = 255
    result = square(picture, size)
    assert result.shape == (size, size, 3)
    assert (result == 100).all()
