"""Pictures and video files: the middle square, and the frames that were given; nothing invented."""

from __future__ import annotations

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmoview.media import square, write_mp4


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


def test_frames_come_back_in_order_and_colour(tmp_path):
    """Flat RGB frames survive H.264 within a few levels; the rate is kept."""
    colors = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200], [90, 90, 90]], np.uint8)
    frames = np.broadcast_to(colors[:, None, None], (4, 32, 48, 3))
    write_mp4(tmp_path / "v.mp4", frames, 24)
    with av.open(str(tmp_path / "v.mp4")) as container:
        stream = container.streams.video[0]
        back = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert stream.average_rate == 24
    assert np.abs(np.stack(back).astype(int) - frames).max() < 12


def test_a_failure_leaves_no_file(tmp_path):
    """Sides that H.264 cannot have: nothing half-written stays."""
    with pytest.raises(av.error.FFmpegError):
        write_mp4(tmp_path / "v.mp4", np.zeros((1, 33, 47, 3), np.uint8), 24)
    assert list(tmp_path.iterdir()) == []
