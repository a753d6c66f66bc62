"""Laws of subjects and splits."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.files import Folder
from lora_engine.acquire.clips import ClipResult
from lora_engine.acquire.people import merge, splits, subjects, write
from lora_engine.acquire.pick import PickedFrames
from lora_engine.pairs import PairsFolder, SubjectFrame


def clip(key, face, subject=None, yaws=(-30, 0, 30), truth=None):
    vector = np.asarray(face, float)
    frames = tuple(SubjectFrame(yaw, b"", float(yaw), 0.0, truth) for yaw in yaws)
    embedding = tuple(vector / np.linalg.norm(vector))
    return ClipResult(
        key, f"{key}.mp4", subject, "candidate", picked=PickedFrames(frames, embedding, 9, 99)
    )


def strangers(count):
    return [clip(f"p{i:03d}", np.eye(count)[i]) for i in range(count)]


@settings(max_examples=50)
@given(st.integers(2, 40), st.floats(0.05, 0.5), st.integers(0, 5), st.data())
def test_nobody_is_in_both_splits(count, share, seed, data):
    """Faces alike by the threshold are in one split, whatever their names; each split has some."""
    faces = [
        data.draw(st.lists(st.integers(-3, 3), min_size=4, max_size=4).filter(any))
        for _ in range(count)
    ]
    people = subjects(clip(f"p{i:03d}", face) for i, face in enumerate(faces))
    where = splits(people, share, 0.9, seed)
    vectors = {key: np.array(some[0].picked.embedding) for key, some in people.items()}
    for one in people:
        for other in people:
            if vectors[one] @ vectors[other] >= 0.9 + 1e-6:
                assert where[one] == where[other]


@pytest.mark.parametrize("count", [2, 3, 10, 200])
def test_some_are_held_out_however_few_there_are(count):
    """About the share asked for, and never nobody or everybody."""
    where = splits(subjects(strangers(count)), 0.1, 0.6, seed=0)
    held = sum(split == "validation" for split in where.values())
    assert 1 <= held <= max(1, 0.2 * count)


def test_more_people_move_nobody():
    """The split of a subject depends on nobody who looks different."""
    few = splits(subjects(strangers(200)[:150]), 0.2, 0.6, 0)
    many = splits(subjects(strangers(200)), 0.2, 0.6, 0)
    assert all(many[key] == split for key, split in few.items())


def test_a_crowd_that_looks_alike_is_trained_on():
    """A chain of look-alikes larger than the validation share never takes the training away."""
    twins = [clip(f"t{i}", [1, 0.01 * i, 0]) for i in range(30)]
    for seed in range(20):
        where = splits(subjects([*twins, clip("other", [0, 0, 1])]), 0.1, 0.6, seed)
        assert {where[twin.key] for twin in twins} == {"train"}
        assert where["other"] == "validation"


def test_rendered_people_are_who_their_names_say():
    """Virtual subjects that a recogniser takes for one another are held out all the same."""
    twins = [clip(f"t{i}", [1, 0.01 * i], truth=0.5) for i in range(30)]
    assert "validation" in splits(subjects(twins), 0.1, 0.6, 0).values()


def test_clips_of_one_name_are_one_subject():
    """The clip with the most yaws gives its frames, another only what is missing, and is named."""
    left = clip("a", [1, 0], "Ann", (-90, -30, 0))
    full = clip("b", [1, 0], "Ann", (-30, 0, 30, 60))
    people = subjects([left, full])
    assert list(people) == ["Ann"]
    whole = merge("Ann", people["Ann"])
    assert (whole.clip, whole.yaws) == ("b", (-90, -30, 0, 30, 60))
    assert [frame.clip for frame in whole.frames] == ["a", None, None, None, None]


def test_takes_with_one_file_name_keep_their_own_pictures(tmp_path):
    """Clips of one person that differ by their folder only give each frame from the right one."""
    takes = [
        replace(clip(key, [1, 0], "Ann", yaws), name="take.mp4")
        for key, yaws in (("a__take", (-90, 0)), ("b__take", (-30, 0, 30)), ("c__take", (0, 60)))
    ]
    people = subjects(takes)

    def pictures(key):
        of = next(take for take in takes if take.key == key)
        return {frame.yaw: f"{key} {frame.yaw}".encode() for frame in of.picked.frames}

    made = write(Folder(tmp_path), people, {"Ann": "train"}, pictures, {}, (-90, -30, 0, 30, 60))
    (ann,) = made.subjects("train")
    where = {f.yaw: f.clip or ann.clip for f in ann.frames}
    first = dict.fromkeys((-30, 0, 30), "b__take")
    assert where == {-90: "a__take", 60: "c__take", **first}
    assert all(f.picture == f"{where[f.yaw]} {f.yaw}".encode() for f in ann.frames)


@pytest.mark.parametrize("name", ["Ann Smith", "a.b/c", "élan", "a-b"])
def test_any_name_makes_a_safe_key(name):
    """Keys are file names; different names stay different."""
    keys = list(subjects([clip("x", [1], name), clip("y", [1], name + "_2")]))
    assert len(keys) == 2
    assert not any("." in key or "/" in key or " " in key for key in keys)


def test_shards_of_an_earlier_run_are_gone(tmp_path):
    """A glob over the folder finds what the manifest lists, and nothing else."""
    folder = Folder(tmp_path)
    folder.put("train/000007.tar", b"old")
    people = subjects(strangers(3))
    where = splits(people, 0.1, 0.6, 0)
    write(folder, people, where, lambda key: dict.fromkeys((-30, 0, 30), b"jpeg"), {}, (-30, 0, 30))
    assert folder.names("train/*.tar") == ["train/000000.tar"]
    everyone = [s for split in ("train", "validation") for s in PairsFolder(folder).subjects(split)]
    assert sorted(s.key for s in everyone) == sorted(people)
    assert everyone[0].frame(0).picture == b"jpeg"
