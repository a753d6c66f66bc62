"""Laws of reading videos."""

import contextlib

import av
import numpy as np
import pytest

from datapipe.errors import BadSample
from harmoview.bench.video import frames, raw_sample, sample, standardised
from lora_engine.subjects.clip import encode


def video(path, count, fps, size=(160, 120)):
    """Frame k is grey of level 5 k."""
    images = (np.full((size[1], size[0], 3), 5 * k, np.uint8) for k in range(count))
    path.write_bytes(encode(images, size, fps))
    return path


def levels(found):
    return [round(float(image.mean()) / 5) for image in found]


def test_frames_come_in_order_and_at_their_times(tmp_path):
    """Every one, with its own time."""
    found = list(frames(video(tmp_path / "v.mp4", 12, 24)))
    assert levels(f.image for f in found) == list(range(12))
    assert [f.time for f in found] == pytest.approx([k / 24 for k in range(12)], abs=1e-3)


def test_pixels_are_those_of_the_file_to_the_last_bit(tmp_path):
    """Published metrics see what PyAV decodes, nothing scaled or recoloured."""
    path = tmp_path / "v.mp4"
    rng = np.random.default_rng(0)
    path.write_bytes(
        encode((rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(5)), (64, 48), 16)
    )
    with av.open(str(path)) as file:
        plain = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    assert all((a.image == b).all() for a, b in zip(frames(path), plain, strict=True))


def test_standardised_video_has_480_lines_and_16_frames_a_second(tmp_path):
    """Of 24 frames a second two of three are kept, of 8 each is shown twice."""
    fast = list(standardised(video(tmp_path / "fast.mp4", 24, 24)))
    assert fast[0].image.shape == (480, 640, 3)
    assert len(fast) == 16
    assert levels(f.image for f in fast) == [k * 3 // 2 for k in range(16)]
    slow = list(standardised(video(tmp_path / "slow.mp4", 6, 8)))
    assert levels(f.image for f in slow) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    same = list(standardised(video(tmp_path / "same.mp4", 9, 16)))
    assert levels(f.image for f in same) == list(range(9))


def test_samples_are_spread_over_the_whole_video(tmp_path):
    """The first and the last frame are among them; a short video gives each frame once."""
    path = video(tmp_path / "v.mp4", 40, 16)
    found = sample(path, 5)
    assert [frame.index for frame in found] == [0, 9, 19, 29, 39]
    assert [frame.index for frame in sample(path, 64)] == list(range(40))
    assert levels(raw_sample(video(tmp_path / "short.mp4", 3, 16), 6)) == [0, 0, 0, 1, 1, 2]


@pytest.mark.parametrize("content", [b"", b"no video", bytes(1000)])
def test_what_is_no_video_is_a_bad_sample(tmp_path, content):
    """With the reason `unreadable`."""
    path = tmp_path / "v.mp4"
    path.write_bytes(content)
    with pytest.raises(BadSample) as told:
        list(frames(path))
    assert told.value.reason == "unreadable"


def test_a_truncated_video_gives_frames_or_a_reason(tmp_path):
    """Cut anywhere, it ends in frames or in BadSample, never otherwise."""
    whole = video(tmp_path / "v.mp4", 20, 16).read_bytes()
    for size in range(0, len(whole), max(1, len(whole) // 12)):
        path = tmp_path / "cut.mp4"
        path.write_bytes(whole[:size])
        with contextlib.suppress(BadSample):
            assert len(list(frames(path))) <= 20
