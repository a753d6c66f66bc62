"""Laws of virtual subjects."""

import io
import json

import av
import numpy as np
import pytest

from datapipe.faces.light import LightFaces
from datapipe.files import Folder
from lora_engine.subjects.clip import (
    HIGH,
    PROFILE,
    ClipFormat,
    as_json,
    empty_clip,
    encode,
    head_turn,
    portrait_clip,
    scene,
)
from lora_engine.subjects.people import invent, random_hair_style
from lora_engine.subjects.write import missing, tasks

weights = pytest.mark.weights
SHORT = ClipFormat(seconds=1.0, fps=8, size=192)


@pytest.fixture(scope="module")
def clip(gallery):
    return portrait_clip(gallery, ("subject-000000",), SHORT, seed=3)


def decoded(video):
    with av.open(io.BytesIO(video)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("seed", range(8))
def test_a_head_turns_from_the_front_to_both_profiles_and_back(seed):
    """It begins and ends frontal and level, and reaches both sides without a jerk."""
    poses = head_turn(97, np.random.default_rng(seed))
    yaw = np.array([pose.yaw for pose in poses])
    assert (yaw[0], yaw.max(), yaw.min()) == (0, PROFILE, -PROFILE)
    assert abs(yaw[-1]) < 1e-6
    assert np.abs(np.diff(yaw)).max() < 12
    assert np.abs(np.diff(yaw, 2)).max() < 3
    assert (poses[0].pitch, poses[0].roll) == (0, 0)
    assert max(abs(pose.pitch) for pose in poses) <= 5


@pytest.mark.parametrize("bad", [{"size": 33}, {"fps": 0}, {"seconds": 0.1}])
def test_bad_formats_are_refused(bad):
    """Settings out of range are an error where they are written."""
    with pytest.raises(ValueError, match=next(iter(bad))):
        ClipFormat(**bad)


def test_more_clips_change_nothing_about_the_first():
    """A clip's name, people and seed do not depend on how many clips there are."""
    few, many = tasks(2, 1, 1, seed=5), tasks(20, 3, 2, seed=5)
    assert set(few) <= set(many)
    people = [name for task in many for name in task.people]
    assert len(people) == len(set(people)) == 26
    assert len({task.seed for task in many}) == 25
    assert not {task.seed for task in tasks(2, 1, 1, seed=6)} & {task.seed for task in few}


def test_finished_clips_are_not_made_again(tmp_path):
    """The video is written last, so only what has one counts as done."""
    wanted = tasks(3, 0, 0, seed=0)
    folder = Folder(tmp_path)
    folder.put("subject-000001.mp4", b"done")
    folder.put("subject-000002.json", b"{}")
    left = [task.name for task in missing(folder, wanted)]
    assert left == ["subject-000000", "subject-000002"]


def test_the_encoder_keeps_every_frame_and_the_same_bytes():
    """The same frames give the same file; it decodes to as many frames, hardly changed."""
    ramp = np.linspace(20, 220, 64, dtype=np.uint8)
    frames = [np.dstack([np.tile(ramp, (64, 1))] * 3) // (k + 1) for k in range(3)]
    one, two = (encode(iter(frames), (64, 64), 24) for _ in range(2))
    assert one == two
    back = decoded(one)
    assert len(back) == 3
    assert all(np.abs(a.astype(int) - b).mean() < 4 for a, b in zip(back, frames, strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_scenes_are_pictures_of_the_asked_shape(seed):
    """Every kind of background is in range and as wide as asked; the seed decides it."""
    one, two = (scene(1.5, np.random.default_rng(seed)) for _ in range(2))
    assert one.background.shape == (HIGH, round(1.5 * HIGH), 3)
    assert one.background.min() >= 0
    assert one.background.max() <= 255
    np.testing.assert_array_equal(one.background, two.background)


def test_hair_is_worn_in_many_ways():
    """A hundred draws give every style of either sex, all of them valid."""
    rng = np.random.default_rng(0)
    names = {
        male: {random_hair_style(male, rng).name for _ in range(100)} for male in (False, True)
    }
    assert len(names[False]) >= 6
    assert len(names[True]) >= 7


def test_an_empty_place_has_a_moving_picture_and_nobody_in_it():
    """The camera moves; the truth names no people."""
    made = empty_clip(SHORT, seed=1)
    frames = decoded(made.video)
    assert len(frames) == SHORT.frames
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 2
    assert made.truth["people"] == []


@weights
def test_the_same_seed_gives_the_same_clip(gallery, clip):
    """Video, caption and truth are equal to the byte; another seed gives another person."""
    again = portrait_clip(gallery, ("subject-000000",), SHORT, seed=3)
    assert again.video == clip.video
    assert as_json(again.truth) == as_json(clip.truth)
    assert portrait_clip(gallery, ("subject-000000",), SHORT, seed=4).video != clip.video


@weights
def test_the_truth_is_where_the_detector_finds_it(clip):
    """In near-frontal frames an independent detector agrees about yaw, points and box."""
    frames = clip.truth["people"][0]["frames"]
    assert len(frames) == SHORT.frames
    assert json.loads(as_json(clip.truth))["subject"] == "subject-000000"
    faces = LightFaces()
    faces.setup()
    near = [k for k, frame in enumerate(frames) if abs(frame["yaw"]) < 35]
    pictures = decoded(clip.video)
    assert len(near) >= 2
    for k in near:
        found = faces.find([pictures[k]])[0][0]
        assert found.pose.yaw == pytest.approx(frames[k]["yaw"], abs=10)
        size = found.size
        assert np.abs(found.points - np.array(frames[k]["points"])).max() < 0.15 * size
        assert np.abs(np.array(found.box) - frames[k]["box"]).max() < 0.35 * size


@weights
def test_two_people_stand_side_by_side(gallery):
    """A pair's truth has two people, left before right, and the detector finds both."""
    made = portrait_clip(gallery, ("pair-000000-left", "pair-000000-right"), SHORT, seed=8)
    left, right = (person["frames"][0]["points"][2][0] for person in made.truth["people"])
    assert left < right
    faces = LightFaces()
    faces.setup()
    assert len(faces.find([decoded(made.video)[0]])[0]) == 2


@weights
def test_invented_people_are_different_people(gallery):
    """Shapes and colours differ between seeds, and not for the same seed."""
    one, same, other = (invent(gallery, np.random.default_rng(s)).person for s in (1, 1, 2))
    np.testing.assert_array_equal(one.shape, same.shape)
    np.testing.assert_array_equal(one.albedo, same.albedo)
    assert np.abs(one.shape - other.shape).max() > 0.02
    assert np.abs(one.albedo - other.albedo).mean() > 1
