import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import webdataset as wds
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.pictures import encode_jpeg
from lora_engine.pairs import PairsFolder, Subject, SubjectFrame, split_of, write_pairs


def subject(key, yaws=(-30, 0, 30), person=None):
    def frame(i, yaw):
        picture = np.full((32, 32, 3), 40 * i + 10, np.uint8)
        return SubjectFrame(yaw, encode_jpeg(picture), yaw + 0.25, i / 10, float(yaw))

    frames = tuple(frame(i, yaw) for i, yaw in enumerate(yaws))
    more = tuple(replace(one, number=1) for one in frames if one.yaw > 0)
    references = tuple(replace(frames[0], yaw=0, number=n, reference=True) for n in range(2))
    return Subject(key, f"{key}.mp4", frames, person, more, references)


PEOPLE = [
    ("train", subject("anna")),
    ("validation", subject("bo", (0, 30))),
    ("train", subject("cy", person="anna")),
]


@pytest.fixture
def written(tmp_path):
    write_pairs(Folder(tmp_path / "pairs"), PEOPLE, (-30, 0, 30), {"tolerance": 3.0})
    return tmp_path / "pairs"


def test_what_was_written_is_read(written):
    """Subjects come back as they went in, in their split."""
    pairs = PairsFolder(Folder(written))
    assert pairs.yaws == (-30, 0, 30)
    assert list(pairs.subjects("train")) == [PEOPLE[0][1], PEOPLE[2][1]]
    assert list(pairs.subjects("validation")) == [PEOPLE[1][1]]
    assert pairs.coverage("validation") == {"bo": (0, 30)}
    assert pairs.people == {"anna": "anna", "bo": "bo", "cy": "anna"}


def test_same_subjects_give_the_same_bytes(written, tmp_path):
    """Writing again gives equal files, and so an equal data hash."""
    again = write_pairs(Folder(tmp_path / "again"), PEOPLE, (30, 0, -30), {"tolerance": 3.0})
    files = sorted(f.relative_to(written) for f in written.rglob("*") if f.is_file())
    assert len(files) == 3
    assert all((written / f).read_bytes() == (tmp_path / "again" / f).read_bytes() for f in files)
    assert again.sha256 == PairsFolder(Folder(written)).sha256


def test_stock_webdataset_reads_the_shards(written):
    """A sample a subject, with its JSON and its pictures."""
    url = str(written / "train/000000.tar")
    samples = list(wds.WebDataset(url, shardshuffle=False).decode("rgb8"))
    assert [sample["__key__"] for sample in samples] == ["anna", "cy"]
    assert samples[0]["yaw+00.jpg"].shape == (32, 32, 3)
    assert samples[0]["reference.1.jpg"].shape == samples[0]["yaw+30.1.jpg"].shape == (32, 32, 3)
    assert samples[0]["json"]["frames"][0]["measured_yaw"] == -29.75


def test_manifest_is_bound_to_the_shards(written):
    """A changed byte of a shard is noticed when it is read."""
    shard = written / "train/000000.tar"
    manifest = json.loads((written / "manifest.json").read_text())
    listed = manifest["splits"]["train"]["shards"][0]["sha256"]
    assert listed == hashlib.sha256(shard.read_bytes()).hexdigest()
    data = bytearray(shard.read_bytes())
    data[600] ^= 1
    shard.write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        list(PairsFolder(Folder(written)).subjects("train"))


def test_no_person_is_in_both_splits(tmp_path):
    """The same subject twice, or two takes of a person apart, is refused: there is no manifest."""
    twice = [("train", subject("anna")), ("validation", subject("anna"))]
    with pytest.raises(ValueError, match="twice"):
        write_pairs(Folder(tmp_path), twice, (0,), {})
    apart = [("train", subject("anna")), ("validation", subject("other", person="anna"))]
    with pytest.raises(ValueError, match="both splits"):
        write_pairs(Folder(tmp_path), apart, (0,), {})
    with pytest.raises(UserError, match="no manifest"):
        PairsFolder(Folder(tmp_path))


@given(st.text(), st.integers(0), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_only_adds_people(key, seed, one, other):
    """Whoever is held out stays held out when more are; none at 0, all at 1."""
    less, more = sorted((one, other))
    assert split_of(key, less, seed) == "train" or split_of(key, more, seed) == "validation"
    assert split_of(key, 0.0, seed) == "train"
    assert split_of(key, 1.0, seed) == "validation"


def test_split_has_the_share_that_was_asked_for():
    """One in five of many people, for any seed."""
    for seed in range(3):
        held = sum(split_of(f"person{i}", 0.2, seed) == "validation" for i in range(2000))
        assert 330 < held < 470


@pytest.mark.parametrize("wrong", [("a.b", (0,)), ("a", (0, 0))])
def test_subjects_that_cannot_be_stored_are_refused(wrong):
    """Dots split a WebDataset key; two frames for one yaw have one name."""
    with pytest.raises(ValueError, match=r"dots|more than one"):
        subject(*wrong)
