"""What is trained on: only spans in which the named people are seen, and never half a head."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.video.decoder import VideoInfo
from harmoview.encode.packed import frame_indices
from harmoview.encode.settings import Bucket
from harmoview.encode.windows import HEAD, TrainWindow, best_bucket, crop_for, train_windows

FPS = 25
BUCKETS = (Bucket(41, 480, 832), Bucket(41, 832, 480), Bucket(81, 480, 832), Bucket(81, 624, 624))


def row(start, end, *, shot=0, left=100.0, size=100.0):
    return {
        "start": start, "end": end, "shot": shot, "face_size": size,
        "left": left, "top": 80.0, "right": left + size, "bottom": 80.0 + size,
    }  # fmt: skip


def about(frames=1000, size=(1280, 720)):
    return VideoInfo(*size, np.arange(frames) / FPS, frames / FPS, "h264", (0,))


@st.composite
def visits(draw):
    """Windows of one person: spans in seconds that do not meet."""
    times = sorted(draw(st.sets(st.integers(0, 40), max_size=8)))
    pairs = zip(times[::2], times[1::2], strict=False)
    return [row(float(a), float(b), shot=int(a >= 20)) for a, b in pairs if (a < 20) == (b <= 20)]


@given(visits(), visits())
def test_in_every_span_exactly_the_named_people_are_seen(first, second):
    """All seconds of all windows are in one span each, with who is seen in them, and no others."""
    spans = train_windows([{"windows": first}, {"windows": second}])
    for second_ in range(40):
        middle = second_ + 0.5
        there = tuple(
            place
            for place, own in enumerate((first, second))
            if any(w["start"] <= middle < w["end"] for w in own)
        )
        named = [span.identities for span in spans if span.start <= middle < span.end]
        assert named == ([there] if there else [])
    ranks = [(-len(s.identities), s.start - s.end) for s in spans]
    assert ranks == sorted(ranks)
    assert len({span.start for span in spans}) == len(spans)


@given(
    st.integers(200, 2000), st.integers(200, 2000), st.sampled_from(BUCKETS),
    st.floats(0, 1), st.floats(0, 1), st.floats(0.05, 0.6), st.floats(0, 0.5),
)  # fmt: skip
def test_a_crop_has_the_buckets_shape_and_holds_the_heads(width, height, bucket, x, y, size, way):
    """As much of the picture as that shape takes; None only where the heads need more."""
    side = size * min(width, height)
    left, top = x * (width - side), y * (height - side)
    faces = left, top, min(float(width), left + side + way * width), top + side
    info, window = about(size=(width, height)), TrainWindow(0, 9, (0,), faces, side)
    crop = crop_for(window, bucket, info)
    heads = window.around(HEAD, info)
    shape = bucket.width / bucket.height
    most = min(width, height * shape), min(height, width / shape)
    if crop is None:
        assert heads[2] - heads[0] > most[0] - 1 or heads[3] - heads[1] > most[1] - 1
        return
    assert (crop[2] - crop[0], crop[3] - crop[1]) == pytest.approx(most, abs=1)
    assert 0 <= crop[0] < crop[2] <= width
    assert 0 <= crop[1] < crop[3] <= height
    for edge, head, inwards in zip(crop, heads, (1, 1, -1, -1), strict=True):
        assert (head - edge) * inwards >= -1.01


def test_a_person_at_the_side_is_in_the_crop():
    """The middle of the picture would not show them."""
    window = TrainWindow(0, 9, (0,), (40.0, 200.0, 240.0, 400.0), 200.0)
    left, _, right, _ = crop_for(window, Bucket(41, 832, 480), about())
    assert left == 0
    assert right < 480
    assert crop_for(window, Bucket(41, 720, 1280), about()) == (0, 0, 1280, 720)


@given(st.floats(0, 20), st.floats(1, 20), st.sampled_from([16, 24]), st.sampled_from(BUCKETS))
def test_no_frame_lies_outside_its_span(start, length, fps, bucket):
    """Nor is a bucket taken that the span does not fill."""
    info, window = about(), TrainWindow(start, start + length, (0,), (500, 200, 600, 300), 100.0)
    found = best_bucket((bucket,), window, info, fps)
    first, last = window.frames(info)
    if found is None:
        assert (bucket.frames - 1) / fps > (last - first) / FPS
        return
    indices = frame_indices(info, bucket.frames, fps, (first, last))
    times = info.times[indices]
    assert times[0] >= start - 1 / FPS - 1e-3
    assert indices[0] >= first
    assert times[-1] < start + length


def test_the_longest_bucket_that_cuts_no_head_is_taken():
    """Two people far apart need the wide shape, however long they are there."""
    info = about()
    near = TrainWindow(0, 9, (0, 1), (400.0, 200.0, 800.0, 400.0), 200.0)
    apart = TrainWindow(0, 9, (0, 1), (100.0, 200.0, 1180.0, 400.0), 200.0)
    buckets = (Bucket(41, 720, 1280), Bucket(81, 624, 624))
    assert best_bucket(buckets, near, info, 16)[0] == buckets[1]
    assert best_bucket(buckets, apart, info, 16)[0] == buckets[0]


def test_beside_a_child_the_adults_head_is_not_cut():
    """Margins go by the larger of two faces."""
    adult = row(0, 9, left=200.0, size=200.0)
    child = row(0, 9, left=600.0, size=60.0)
    window = train_windows([{"windows": [adult]}, {"windows": [child]}])[0]
    assert window.identities == (0, 1)
    (alone,) = train_windows([{"windows": [adult]}])
    assert window.around(HEAD, about())[0] <= alone.around(HEAD, about())[0]
