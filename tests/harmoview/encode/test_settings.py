"""Buckets: the longest that a clip fills, of the shape nearest to its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmoview.encode.settings import Bucket, choose_bucket, default_buckets
from harmoview.recipes import A14B, TI2V_5B

BUCKETS = default_buckets(A14B, 16)


@pytest.mark.parametrize(
    ("height", "width", "seconds", "expected"),
    [(1080, 1920, 9, "81x480x832"), (1920, 1080, 9, "81x832x480"), (512, 512, 9, "81x624x624"),
     (1080, 1920, 5.0, "81x480x832"), (1080, 1920, 4.99, "41x480x832")],
)  # fmt: skip
def test_a_clip_goes_to_the_longest_bucket_it_fills_of_its_shape(height, width, seconds, expected):
    """Wide, tall, square; just long enough and just too short for 81 frames at 16 a second."""
    assert str(choose_bucket(BUCKETS, height, width, seconds, 16)) == expected


def test_a_clip_shorter_than_every_bucket_has_none():
    """40 intervals at 16 a second are 2.5 seconds."""
    assert choose_bucket(BUCKETS, 480, 832, 2.49, 16) is None


@given(st.integers(64, 4000), st.integers(64, 4000), st.floats(2.5, 60))
def test_the_order_of_the_buckets_does_not_matter(height, width, seconds):
    """For any clip."""
    assert choose_bucket(BUCKETS, height, width, seconds, 16) == choose_bucket(
        BUCKETS[::-1], height, width, seconds, 16
    )


def test_default_buckets_divide_into_patches():
    """For both kinds of VAE."""
    for recipe, multiple in ((A14B, 16), (TI2V_5B, 32)):
        buckets = default_buckets(recipe, multiple)
        assert all(b.height % multiple == b.width % multiple == 0 for b in buckets)
        assert len(set(buckets)) == 6


@pytest.mark.parametrize("text", ["81", "81x480", "80x480x832", "axbxc", "0x8x8", "5x0x8"])
def test_what_is_no_bucket_is_refused(text):
    """Form, length and sides."""
    with pytest.raises(ValueError, match="bucket"):
        Bucket.parse(text)


def test_a_bucket_reads_what_it_writes():
    """FRAMESxHEIGHTxWIDTH."""
    assert Bucket.parse(str(Bucket(81, 480, 832))) == Bucket(81, 480, 832)
