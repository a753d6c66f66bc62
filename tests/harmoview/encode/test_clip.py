"""Frames of a clip: at the model's rate, from its middle, cropped to a bucket, not invented."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import BadSample
from datapipe.prepare.video import Decoder, VideoInfo
from harmoview.encode.buckets import Bucket
from harmoview.encode.clip import Frames, fit, frame_indices
from lora_engine.subjects.clip import encode as mp4

BUCKETS = (Bucket(9, 32, 48), Bucket(5, 32, 48), Bucket(5, 48, 32))


def about(frames, fps):
    return VideoInfo(64, 48, frames, frames / fps, fps, "h264", (0,))


@given(st.integers(1, 300), st.sampled_from([8.0, 23.976, 25.0, 29.97, 60.0]),
       st.sampled_from([16, 24]), st.integers(0, 30))  # fmt: skip
def test_frames_are_where_the_models_rate_has_them(frames, own, fps, quarter):
    """In order, inside the clip, around its middle, evenly to half a source frame."""
    count = 4 * quarter + 1
    indices = frame_indices(about(frames, own), count, fps)
    assert len(indices) == count
    assert 0 <= indices[0] <= indices[-1] <= frames - 1
    if (count - 1) / fps <= (frames - 1) / own - 0.5 / own:
        assert abs(indices[0] - (frames - 1 - indices[-1])) <= 1
        assert all(abs(i - indices[0] - k / fps * own) < 0.51 for k, i in enumerate(indices))


@given(st.integers(1, 300), st.sampled_from([16, 24]), st.integers(0, 30), st.floats(1, 5))
def test_a_clip_at_the_models_rate_or_above_gives_no_frame_twice(frames, fps, quarter, faster):
    """Also where the spare ones cannot be shared evenly: at its own rate they are neighbours."""
    count = 4 * quarter + 1
    for own in (float(fps), fps * faster):
        indices = frame_indices(about(max(frames, int(count * faster) + 2), own), count, fps)
        assert len(set(indices)) == count
        assert own != fps or indices[-1] - indices[0] == count - 1


@settings(max_examples=40)
@given(st.integers(17, 200), st.integers(17, 200), st.sampled_from(BUCKETS))
def test_any_size_is_brought_to_the_bucket_without_distortion(height, width, bucket):
    """Odd sides too: a constant picture stays constant, and the middle stays in the middle."""
    picture = np.full((height, width, 3), (10, 90, 200), np.uint8)
    fitted = fit(picture, bucket)
    assert fitted.shape == (bucket.height, bucket.width, 3)
    assert (fitted == (10, 90, 200)).all()
    left = picture.copy()
    left[:, : width // 2] = 0
    share = (fit(left, bucket)[..., 2] < 100).mean()
    assert abs(share - width // 2 / width) < 0.1


def written(tmp_path, frames, size=(64, 48), fps=8):
    path = tmp_path / "clip.mp4"
    pictures = (np.full((size[1], size[0], 3), 5 * k, np.uint8) for k in range(frames))
    path.write_bytes(mp4(pictures, size, fps))
    return path


@pytest.mark.parametrize(
    ("frames", "expected", "first", "last"),
    [(9, 9, 0, 8), (15, 9, 3, 11), (8, 5, 1, 5), (10, 9, 0, 8), (5, 5, 0, 4)],
)
def test_a_clip_gives_the_middle_of_its_longest_bucket(tmp_path, frames, expected, first, last):
    """Exactly long enough, longer, one frame short of the long bucket, and the shortest."""
    with Decoder() as decoder:
        bucket, found = Frames(BUCKETS, 8, 2.0).read(decoder, written(tmp_path, frames))
    assert (bucket.frames, len(found)) == (expected, expected)
    levels = found.mean(axis=(1, 2, 3)) / 5
    assert abs(levels[0] - first) < 1
    assert abs(levels[-1] - last) < 1


@pytest.mark.parametrize(
    ("frames", "size", "reason"), [(4, (64, 48), "too_short"), (9, (20, 14), "too_small")]
)
def test_what_would_have_to_be_invented_is_refused(tmp_path, frames, size, reason):
    """Too few frames for the shortest bucket; pixels enlarged more than twice."""
    with Decoder() as decoder, pytest.raises(BadSample) as refused:
        Frames(BUCKETS, 8, 2.0).read(decoder, written(tmp_path, frames, size))
    assert refused.value.reason == reason
