"""Laws of poses, the camera and the sensor."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.record import Pose
from lora_engine.mesh.head import PIVOT
from lora_engine.mesh.render import Camera, Sensor, Turn, rotations

JOINT = np.array([0.0, 5.9, 0.1])
HEAD = np.array([[0.0, 7.1, 1.7], [0.4, 7.4, 1.1], [-0.4, 7.4, 1.1]])  # nose tip and eyes
CHEST = np.array([[0.0, 4.6, 0.8]])
angles = st.floats(-90, 90), st.floats(-25, 25), st.floats(-25, 25)


def turned(points, pose):
    turn = Turn(rotations(pose), JOINT + PIVOT)
    return turn(points, turn.level(points))


def test_signs_are_the_projects():
    """Yaw > 0: nose to image right. Pitch > 0: it rises. Roll > 0: the head's top to the right."""
    nose = HEAD[:1]
    assert turned(nose, Pose(30, 0, 0))[0, 0] > 0.3
    assert turned(nose, Pose(0, 20, 0))[0, 1] > nose[0, 1] + 0.2
    assert turned(np.array([[0.0, 8.4, 0.4]]), Pose(0, 0, 20))[0, 0] > 0.2


@given(*angles)
def test_the_head_turns_by_exactly_the_pose(yaw, pitch, roll):
    """The rotation that took the head's points where they are has the angles that were asked."""
    moved = turned(HEAD, Pose(yaw, pitch, roll))
    before, after = (np.stack([p[0] - p[1], p[0] - p[2], p[1] - p[2]]) for p in (HEAD, moved))
    before[2] = np.cross(before[0], before[1])
    after[2] = np.cross(after[0], after[1])
    matrix = np.linalg.solve(before, after).T
    found_yaw = np.degrees(np.arctan2(-matrix[2, 0], np.hypot(matrix[0, 0], matrix[1, 0])))
    assert found_yaw == pytest.approx(yaw, abs=1e-6)
    if abs(yaw) < 89:
        found_pitch = -np.degrees(np.arctan2(matrix[2, 1], matrix[2, 2]))
        assert found_pitch == pytest.approx(pitch, abs=1e-5)
        found_roll = -np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))
        assert found_roll == pytest.approx(roll, abs=1e-5)


@given(*angles)
def test_mirrored_poses_are_mirror_images(yaw, pitch, roll):
    """Turning the other way is turning the mirror image."""
    flip = np.array([-1, 1, 1])
    points = np.concatenate([HEAD, CHEST])
    other = turned(points * flip, Pose(-yaw, pitch, -roll)) * flip
    np.testing.assert_allclose(other, turned(points, Pose(yaw, pitch, roll)), atol=1e-9)


def test_the_shoulders_follow_only_a_little():
    """The chest turns by a share of the yaw, and not at all by pitch and roll."""
    still = turned(CHEST, Pose(0, 20, 20))
    np.testing.assert_allclose(still, CHEST, atol=1e-9)
    chest = turned(CHEST, Pose(60, 0, 0))[0] - JOINT - PIVOT
    assert 10 < np.degrees(np.arctan2(chest[0], chest[2])) < 35


def test_the_camera_puts_its_origin_at_its_place():
    """The origin is drawn at the place, and nearer things are larger."""
    camera = Camera(HEAD[0], (0.25, 0.5), 0.2)
    x, y, _ = camera.project(HEAD[:1], 400, 200)[0]
    assert (x, y) == pytest.approx((99.5, 99.5))
    step = np.array([[0.1, 0, 0]])
    near = camera.project(HEAD[:1] + step + [0, 0, 1], 400, 200)[0, 0]
    far = camera.project(HEAD[:1] + step - [0, 0, 1], 400, 200)[0, 0]
    assert near > far > 99.5


def test_noise_has_its_strength_and_follows_its_seed():
    """A grey picture gets the asked noise; the same generator state gives the same picture."""
    grey = np.full((64, 64, 3), 127.0, np.float32)
    one, two = (Sensor(noise=4)(grey, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert 3 < one.astype(float).std() < 6
    with pytest.raises(ValueError, match="noise"):
        Sensor(noise=-1)
