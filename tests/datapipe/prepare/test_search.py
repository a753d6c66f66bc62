"""Laws of the choice of frames to look at."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import BadSample
from datapipe.faces.base import Face
from datapipe.prepare.people import Person, Sighting
from datapipe.prepare.search import REACH, check_seen, coarse, finer
from datapipe.prepare.shots import same_shot
from datapipe.record import Pose
from datapipe.video.decoder import VideoInfo

COUNTS = st.integers(1, 5000)
GOPS = st.sampled_from([1, 12, 50, 250, 10_000])


def info(frames: int, gop: int = 250, fps: float = 25.0) -> VideoInfo:
    times = np.arange(frames) / fps
    return VideoInfo(640, 360, times, frames / fps, "h264", tuple(range(0, frames, gop)))


def person(*seen: tuple[int, float]) -> Person:
    """Sightings by frame and yaw."""
    box, points = (0.0, 0.0, 100.0, 100.0), np.zeros((5, 2), np.float32)
    return Person([Sighting(n, Face(box, points, 0.9, Pose(yaw, 0, 0))) for n, yaw in seen])


@given(COUNTS, GOPS, st.integers(1, 64))
def test_even_probes_are_in_the_clip_and_no_more_than_allowed(frames, gop, count):
    """Ascending, each once."""
    probes = coarse(info(frames, gop), count)
    assert 1 <= len(probes) <= count
    assert probes == sorted(set(probes))
    assert 0 <= probes[0] <= probes[-1] < frames


@given(st.integers(300, 5000), st.integers(12, 64))
def test_even_probes_leave_no_long_gap_where_key_frames_are_dense(frames, count):
    """Neighbours are at most two steps and one group of pictures apart."""
    probes = coarse(info(frames, gop=12), count)
    gaps = np.diff([0, *probes, frames - 1])
    assert gaps.max() <= 2 * frames / count + 12


@given(st.integers(1200, 20_000), st.sampled_from([250, 600, 100_000]))
def test_a_long_clip_costs_about_a_quarter_of_its_decoding(frames, gop):
    """Whatever its key frames."""
    video = info(frames, gop)
    last = {}
    for probe in coarse(video, 16):
        last[probe // gop] = probe % gop + 1
    assert sum(last.values()) <= REACH * frames + 2 * len(last)


@given(
    st.integers(10, 500),
    st.lists(st.tuples(st.integers(0, 499), st.floats(-90, 90)), min_size=1, max_size=30),
)
def test_finer_probes_are_new_and_in_the_clip(frames, seen):
    """Nothing is looked at twice."""
    seen = [(n % frames, yaw) for n, yaw in dict(seen).items()]
    probed = {n for n, _ in seen}
    found = list(finer(info(frames), person(*seen), probed))
    assert len(found) == len(set(found)) <= 3
    assert not probed & set(found)
    assert all(0 <= index < frames for index in found)


@given(st.floats(30, 200), st.floats(0, 2 * math.pi))
def test_a_turn_is_followed_to_its_middle(period, phase):
    """A few rounds from two frames of a turn reach a frame within a frame's turn of yaw zero."""

    def yaw(frame: int) -> float:
        return 60 * math.sin(2 * math.pi * frame / period + phase)

    video, seen = info(400), {200: yaw(200), 210: yaw(210)}
    for _ in range(4):
        for index in finer(video, person(*seen.items()), set(seen)):
            seen[index] = yaw(index)
    step = 60 * 2 * math.pi / period
    assert min(map(abs, seen.values())) <= step + 1


def test_mirrored_yaw_gives_the_same_frames():
    """Left and right are treated alike."""
    seen = [(0, 40.0), (12, -20.0), (30, -35.0), (90, 5.0)]
    mirrored = [(n, -yaw) for n, yaw in seen]
    probed = {n for n, _ in seen}
    plain = list(finer(info(100), person(*seen), probed))
    assert plain == list(finer(info(100), person(*mirrored), probed))


def test_frames_share_a_shot_when_near_or_without_a_key_frame_between():
    """A key frame may be a cut, but not within a second; a new picture is one at any time."""
    video = info(1000, gop=250)
    grey, white = np.full((40, 60, 3), 128, np.uint8), np.full((40, 60, 3), 255, np.uint8)
    images = {10: grey, 240: grey + 9, 250: white, 260: grey, 300: grey}
    assert same_shot(video, images, 10, 240)
    assert same_shot(video, images, 240, 260)
    assert not same_shot(video, images, 240, 300)
    assert not same_shot(video, images, 240, 250)


def test_a_clip_is_damaged_when_most_probes_are_and_faceless_without_a_face():
    """Half of them are enough; one face is enough."""
    face = person((3, 0.0)).sightings
    check_seen([[], face], wanted=4)
    with pytest.raises(BadSample, match="3 of 4") as damaged:
        check_seen([face], wanted=4)
    with pytest.raises(BadSample, match="no face in 2 frames") as faceless:
        check_seen([[], []], wanted=4)
    assert (damaged.value.reason, faceless.value.reason) == ("damaged", "no_face")
