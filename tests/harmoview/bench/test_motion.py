"""Laws of motion by optical flow, on clips whose motion is known."""

import cv2
import numpy as np
import pytest

from datapipe.models import models_folder
from harmoview.bench.motion import flow_and_interpolation, opens2v_amplitude
from harmoview.bench.video import frames
from lora_engine.subjects.clip import encode

DEMO = models_folder().parent / "opens2v-demo"
"""Where OpenS2V-Eval's two demo clips go, if somebody puts them there (they are not ours to ship):
eval/demo_result/model_name_input_video of github.com/franciszzj/OpenS2V-Nexus."""
FRAMES = 17


@pytest.fixture(scope="module")
def texture():
    """A smooth random texture, wider than the clips."""
    noise = np.random.default_rng(0).normal(size=(240, 400, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4.5)
    return np.clip(128 + 45 * (smooth - smooth.mean()) / smooth.std(), 0, 255).astype(np.uint8)


def clip(texture, offsets):
    return [texture[:, 60 + x : 300 + x] for x in offsets]


def measured(texture, offsets):
    """Amplitude, mean flow and interpolation of a texture seen at these offsets."""
    images = clip(texture, offsets)
    flow, interpolated, n = flow_and_interpolation(images)
    assert n == len(images)
    return opens2v_amplitude(images)[0], flow, interpolated


def test_a_pan_has_amplitude_and_flow(texture):
    """Two pixels a frame to the left: about 1.9 of mean flow, nearly all of it amplitude."""
    amplitude, flow, interpolated = measured(texture, range(0, 2 * FRAMES, 2))
    assert 1.7 < flow < 2.05
    assert 0.45 * flow < amplitude < 0.53 * flow
    assert interpolated > 0.998


def test_to_and_fro_has_flow_without_amplitude(texture):
    """Opposite motions cancel in the published column, not in ours."""
    amplitude, flow, _ = measured(texture, [2 * (k % 2) for k in range(FRAMES)])
    assert amplitude < 0.01
    assert 1.7 < flow < 2.05


def test_a_still_picture_has_neither_and_is_told_exactly(texture):
    """Amplitude and flow 0, interpolation 1.0000."""
    amplitude, flow, interpolated = measured(texture, [0] * FRAMES)
    assert amplitude < 0.001
    assert flow < 0.01
    assert interpolated == pytest.approx(1, abs=5e-5)


def test_jitter_is_told_from_a_pan_of_the_same_speed(texture):
    """Each second frame shifted by 3 pixels reads .96 at most, a pan of 3 pixels .998 at least."""
    jitter = measured(texture, [3 * (k % 2) for k in range(FRAMES)])[2]
    pan = measured(texture, range(0, 3 * FRAMES, 3))[2]
    assert jitter <= 0.96
    assert pan >= 0.998


def test_one_frame_has_no_motion_to_measure(texture):
    """None, not zero."""
    images = clip(texture, [0])
    assert opens2v_amplitude(images) == (None, 0)
    assert flow_and_interpolation(images) == (None, None, 1)


def test_an_encoded_clip_reads_as_the_frames_it_was_made_of(texture, tmp_path):
    """H.264 at our quality changes the amplitude of a pan by a few hundredths at most."""
    images = clip(texture, range(0, 2 * FRAMES, 2))
    path = tmp_path / "pan.mp4"
    path.write_bytes(encode(iter(images), (240, 240), 16))
    read = opens2v_amplitude(frame.image for frame in frames(path))[0]
    assert read == pytest.approx(opens2v_amplitude(images)[0], abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [("faceobj_14", 0.35025984048843384), ("singleface_3", 0.038793787360191345)],
)
@pytest.mark.skipif(not DEMO.is_dir(), reason=f"OpenS2V-Eval's demo clips are not in {DEMO}")
def test_amplitude_is_opens2v_own_to_the_last_bit(name, value):
    """As its repository stores it for its two demo clips."""
    assert opens2v_amplitude(frame.image for frame in frames(DEMO / f"{name}.mp4"))[0] == value
