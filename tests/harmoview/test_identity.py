"""Pictures of an identity: found by name in a folder, by key in shards, or the mistake is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny

from datapipe import tar
from datapipe.errors import UserError
from datapipe.models import model_path
from datapipe.pictures import decode_jpeg, encode_jpeg, reference_name, view_name
from harmoview.identity import decode, read_identity
from harmoview.photos import is_square


def jpeg(seed):
    return encode_jpeg(tiny.portrait(seed))


@pytest.fixture
def shards(tmp_path):
    """Two shards; the second has a sample with two people."""
    for number, key, people in ((0, "solo", 1), (1, "pair", 2)):
        with (tmp_path / f"{number:06d}.tar").open("wb") as file, tar.open_writer(file) as out:
            tar.add(out, f"{key}.mp4", b"video")
            tar.add(out, f"{key}.txt", b"caption")
            for person in range(people):
                tar.add(out, f"{key}.{reference_name(person)}", jpeg(10 * person))
                for yaw in (-90, 0, 30):
                    tar.add(out, f"{key}.{view_name(person, yaw)}", jpeg(10 * person + yaw + 100))
    return tmp_path


def test_a_folder_is_read_by_the_names_of_its_files(tmp_path):
    """reference is yaw 0 and goes before a made yaw+00; other files do not matter."""
    for name, seed in (("reference", 1), ("yaw+00", 2), ("anna.yaw-90", 3), ("id0.yaw+30", 4),
                       ("group-photo", 5)):  # fmt: skip
        (tmp_path / f"{name}.jpg").write_bytes(jpeg(seed))
    assert read_identity(str(tmp_path)) == {0: jpeg(1), -90: jpeg(3), 30: jpeg(4)}


def test_without_a_reference_yaw_zero_is_the_frontal_view(tmp_path):
    """And a folder without any frontal view is fine too."""
    (tmp_path / "yaw+00.jpg").write_bytes(jpeg(2))
    assert read_identity(str(tmp_path)) == {0: jpeg(2)}
    (tmp_path / "yaw+00.jpg").rename(tmp_path / "yaw-60.jpg")
    assert read_identity(str(tmp_path)) == {-60: jpeg(2)}


@pytest.mark.weights
def test_a_photo_is_frontal_and_cut_whatever_its_name(tmp_path):
    """Given alone or in a folder; a folder's squares are taken as they are."""
    photo = sorted(Path(model_path("portraits")).rglob("studio_portrait.jpg"))[0]
    wide = np.pad(decode_jpeg(photo.read_bytes()), ((0, 0), (200, 300), (0, 0)), mode="edge")
    for name, picture in (("me", wide), ("yaw+00", wide), ("yaw+30", tiny.portrait(1))):
        (tmp_path / f"{name}.jpg").write_bytes(encode_jpeg(picture))
    alone = read_identity(tmp_path / "me.jpg")
    assert is_square(decode_jpeg(alone[0]))
    assert read_identity(tmp_path) == {**alone, 30: jpeg(1)}


def test_a_sample_of_a_shard_is_read_by_its_key(shards):
    """From a tar or a folder of tars; .id1 is the second person; the reference is yaw 0."""
    solo = {0: jpeg(0), -90: jpeg(10), 30: jpeg(130)}
    assert read_identity(f"{shards}/000000.tar::solo") == solo
    assert read_identity(f"{shards}::solo") == solo
    assert read_identity(f"{shards}::pair.id0") == solo
    assert read_identity(f"{shards}::pair.id1") == {0: jpeg(10), -90: jpeg(20), 30: jpeg(140)}


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{}/nothing", "no such folder"),
        ("{}", "found no picture named like"),
        ("{}::nobody", "no identity 0 under 'nobody'"),
        ("{}::solo.id1", "no identity 1"),
        ("{}::solo.front", "KEY or KEY.id1"),
        ("{}/000009.tar::solo", "there is no shard"),
    ],
)
def test_what_is_not_there_is_named(shards, source, says):
    """A user's mistake ends in one sentence."""
    with pytest.raises(UserError, match=says):
        read_identity(source.format(shards))


def test_a_folder_of_photos_with_other_names_says_what_to_give(tmp_path):
    """One of them, itself."""
    (tmp_path / "IMG_1.jpg").write_bytes(jpeg(1))
    with pytest.raises(UserError, match=r"IMG_1\.jpg from the front, give that file"):
        read_identity(tmp_path)


def test_two_pictures_of_one_yaw_are_refused(tmp_path):
    """A folder holds one identity."""
    for name in ("id0.yaw+30.jpg", "id1.yaw+30.jpg"):
        (tmp_path / name).write_bytes(jpeg(1))
    with pytest.raises(UserError, match=r"id0\.yaw\+30\.jpg and id1\.yaw\+30\.jpg"):
        read_identity(str(tmp_path))


@pytest.mark.parametrize("data", [b"not a picture", b""])
def test_a_damaged_picture_is_named(data):
    """By its yaw and source."""
    with pytest.raises(UserError, match="yaw 30 is damaged"):
        decode({0: jpeg(1), 30: data}, "anna")
    assert decode({0: jpeg(1)}, "anna")[0].shape == (48, 48, 3)


def test_a_file_that_is_no_tar_is_named(tmp_path):
    """Not a traceback of tarfile."""
    (tmp_path / "000000.tar").write_bytes(b"x" * 2000)
    with pytest.raises(UserError, match=r"000000\.tar is damaged"):
        read_identity(f"{tmp_path}::solo")
