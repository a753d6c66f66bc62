"""Laws of subjects and splits."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.files import Folder
from lora_engine.acquire.clips import ClipResult
from lora_engine.acquire.people import people_of, splits, subjects, write
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
    people = people_of(clip(f"p{i:03d}", face) for i, face in enumerate(faces))
    where = splits(people, share, 0.9, seed)
    vectors = {key: np.array(some[0].picked.embedding) for key, some in people.items()}
    for one in people:
        for other in people:
            if vectors[one] @ vectors[other] >= 0.9 + 1e-6:
                assert where[one] == where[other]


@pytest.mark.parametrize("count", [2, 3, 10, 200])
def test_some_are_held_out_however_few_there_are(count):
    """About the share asked for, and never nobody or everybody."""
    where = splits(people_of(strangers(count)), 0.1, 0.6, seed=0)
    held = sum(split == "validation" for split in where.values())
    assert 1 <= held <= max(1, 0.2 * count)


def test_more_people_move_nobody():
    """The split of a subject depends on nobody who looks different."""
    few = splits(people_of(strangers(200)[:150]), 0.2, 0.6, 0)
    many = splits(people_of(strangers(200)), 0.2, 0.6, 0)
    assert all(many[key] == split for key, split in few.items())


def test_a_crowd_that_looks_alike_is_trained_on():
    """A chain of look-alikes larger than the validation share never takes the training away."""
    twins = [clip(f"t{i}", [1, 0.01 * i, 0]) for i in range(30)]
    for seed in range(20):
        where = splits(people_of([*twins, clip("other", [0, 0, 1])]), 0.1, 0.6, seed)
        assert {where[twin.key] for twin in twins} == {"train"}
        assert where["other"] == "validation"


def test_rendered_people_are_who_their_names_say():
    """Virtual subjects that a recogniser takes for one another are held out all the same."""
    twins = [clip(f"t{i}", [1, 0.01 * i], truth=0.5) for i in range(30)]
    assert "validation" in splits(people_of(twins), 0.1, 0.6, 0).values()


def test_every_take_is_a_subject_of_its_own_and_names_serve_the_split(tmp_path):
    """Takes of one person, even with one file name, are all kept, unmixed and in one split."""
    takes = [
        replace(clip(key, [1, 0], "Ann", yaws), name="take.mp4")
        for key, yaws in (("a__take", (-90, 0)), ("b__take", (-30, 0, 30)), ("c__take", (0, 60)))
    ]
    people = people_of([*takes, clip("d", [0, 1])])
    assert list(people) == ["Ann", "d"]

    def pictures(key):
        of = next(some for some in subjects(people) if some.key == key)
        return {frame.name: f"{key} {frame.yaw}".encode() for frame in of.frames}

    for ann, other in (("train", "validation"), ("validation", "train")):
        where = {"Ann": ann, "d": other}
        made = write(Folder(tmp_path), people, where, pictures, {}, (-90, -30, 0, 30, 60))
        found = list(made.subjects(ann))
        assert [(one.key, one.person) for one in found] == [(t.key, "Ann") for t in takes]
        assert [one.key for one in made.subjects(other)] == ["d"]
        for one, take in zip(found, takes, strict=True):
            assert one.yaws == tuple(frame.yaw for frame in take.picked.frames)
            assert all(f.picture == f"{one.key} {f.yaw}".encode() for f in one.frames)


@pytest.mark.parametrize("name", ["Ann Smith", "a.b/c", "élan", "a-b"])
def test_any_name_makes_a_safe_key(name):
    """Keys are file names; different names stay different."""
    keys = list(people_of([clip("x", [1], name), clip("y", [1], name + "_2")]))
    assert len(keys) == 2
    assert not any("." in key or "/" in key or " " in key for key in keys)


def test_shards_of_an_earlier_run_are_gone(tmp_path):
    """A glob over the folder finds what the manifest lists, and nothing else."""
    folder = Folder(tmp_path)
    folder.put("train/000007.tar", b"old")
    people = people_of(strangers(3))
    where = splits(people, 0.1, 0.6, 0)
    pictures = dict.fromkeys(("yaw-30", "yaw+00", "yaw+30"), b"jpeg")
    write(folder, people, where, lambda key: pictures, {}, (-30, 0, 30))
    assert folder.names("train/*.tar") == ["train/000000.tar"]
    everyone = [s for split in ("train", "validation") for s in PairsFolder(folder).subjects(split)]
    assert sorted(s.key for s in everyone) == sorted(people)
    assert everyone[0].frame(0).picture == b"jpeg"
