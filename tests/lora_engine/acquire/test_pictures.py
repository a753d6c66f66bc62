"""Laws of takes given as pictures named by their yaw, on painted faces of exactly known yaw."""

import json
import shutil

import cv2
import numpy as np
import pytest

from datapipe.errors import UserError
from lora_engine.acquire.clips import Acquire, acquire
from lora_engine.acquire.pictures import picture_takes
from lora_engine.acquire.settings import AcquireSettings
from lora_engine.flux.prompts import prompt
from tests.datapipe.painted import Painted, PaintedFaces, paint

SETTINGS = AcquireSettings(side=64)
NAMES = {
    "yaw-90.png": -90, "-60.png": -60, "YAW-30.png": -30, "0.png": 0, "00_b.png": 0,
    "+12.png": 12, "yaw+30.png": 30, "+30.second.png": 30, "+45.png": 45,
}  # fmt: skip


def save(folder, names, **options):
    folder.mkdir(parents=True)
    for name, yaw in names.items():
        picture = paint([Painted(0, yaw, 150, 60, 80)], **options)
        cv2.imwrite(str(folder / name), picture[..., ::-1])


@pytest.fixture
def takes(tmp_path):
    """Two takes of one person, and what must be passed over."""
    save(tmp_path / "in/ann/monday", NAMES)
    (tmp_path / "in/ann/monday/+60.png").write_bytes(b"")
    (tmp_path / "in/ann/monday/30.png").write_bytes(b"a number without a sign")
    (tmp_path / "in/ann/monday.json").write_text(json.dumps({"subject": "Ann"}))
    save(tmp_path / "in/ann/friday", {"0.png": 0})
    (tmp_path / "in/ann/friday.json").write_text(json.dumps({"subject": "Ann"}))
    return tmp_path / "in"


def run(folder, out, faces=None):
    stage = Acquire(SETTINGS, faces or PaintedFaces(), str(out))
    done = list(acquire(stage, picture_takes(str(folder)), 1))
    return {sample.key: stage.result(sample) for sample in done}, stage


def test_pictures_stand_for_the_yaws_they_are_named_by(takes, tmp_path):
    """Every take is a subject of its own; only yaws that are asked for become targets, and those
    near the front are references too."""
    found, stage = run(takes, tmp_path / "out")
    assert {key: clip.subject for key, clip in found.items()} == {
        "ann__friday": "Ann", "ann__monday": "Ann",
    }  # fmt: skip
    picked = found["ann__monday"].picked
    assert [frame.name for frame in picked.frames] == [
        "yaw-90", "yaw-60", "yaw-30", "yaw+00", "yaw+30",
    ]  # fmt: skip
    assert [frame.name for frame in picked.more] == ["yaw+00.1", "yaw+30.1"]
    assert [frame.measured_yaw for frame in picked.references] == pytest.approx([0, 0, 12], abs=2)
    assert all(abs(frame.measured_yaw - frame.yaw) < 3 for frame in picked.frames)
    images = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
              for data in stage.pictures("ann__monday").values()]  # fmt: skip
    assert {image.shape for image in images} == {(64, 64, 3)}


def test_a_take_is_looked_at_again_when_a_picture_changes(takes, tmp_path):
    """And not before."""
    run(takes, tmp_path / "out")
    idle = PaintedFaces()
    run(takes, tmp_path / "out", idle)
    assert idle.looked == 0
    shutil.copy(takes / "ann/monday/yaw+30.png", takes / "ann/monday/+60.png")
    found, _ = run(takes, tmp_path / "out", idle)
    assert idle.looked == found["ann__monday"].picked.total


def test_takes_without_a_frontal_face_are_rejected_with_the_reason(tmp_path):
    """Each by what is wrong with it."""
    save(tmp_path / "in/side", {"+30.png": 30, "+60.png": 60})
    save(tmp_path / "in/blurred", {"0.png": 0, "+30.png": 30}, blur=4.5)
    save(tmp_path / "in/nobody", {"0.png": 0})
    cv2.imwrite(str(tmp_path / "in/nobody/0.png"), paint([])[..., ::-1])
    (tmp_path / "in/small").mkdir()
    small = paint([Painted(0, 0, 60, 60, 80)])
    cv2.imwrite(str(tmp_path / "in/small/0.png"), small[..., ::-1])
    found, _ = run(tmp_path / "in", tmp_path / "out")
    assert {key: clip.reason for key, clip in found.items()} == {
        "blurred": "too_blurred", "nobody": "no_face", "side": "no_frontal", "small": "too_small",
    }  # fmt: skip


def test_other_corpora_hold_no_takes(tmp_path):
    """Clips with pictures beside them are clips."""
    (tmp_path / "0012.jpg").write_bytes(b"a thumbnail")
    (tmp_path / "30.jpg").write_bytes(b"a thumbnail")
    assert picture_takes(str(tmp_path)) == []
    assert picture_takes("s3://bucket/clips") == []


@pytest.fixture
def captioned(tmp_path):
    """Two references with targets of one caption each, one name within the other."""
    corpus = tmp_path / "in"
    save(corpus / "reference", {"ann.PNG": 0, "ann-b.png": 0})
    save(corpus / "target", {"ann.png": 30, "ann_2.png": -60, "ann-b.png": 60, "ann-b.x.png": 0})
    (corpus / "caption").mkdir()
    for name, yaw in {"ann": 30, "ann_2": -60, "ann-b": 60}.items():
        (corpus / f"caption/{name}.txt").write_text(prompt(yaw) + "\n")
    (corpus / "target/ann-b.x.txt").write_text(prompt(0))
    (corpus / "reference/ann.json").write_text(json.dumps({"subject": "Ann"}))
    return corpus


def test_a_caption_says_the_yaw_of_a_target(captioned, tmp_path):
    """Each target goes with the reference of its name, which is the picture at 0."""
    found, _ = run(captioned, tmp_path / "out")
    assert {key: [frame.yaw for frame in clip.picked.frames] for key, clip in found.items()} == {
        "ann": [-60, 0, 30], "ann-b": [0, 60],
    }  # fmt: skip
    assert found["ann"].subject == "Ann"
    for clip in found.values():
        picked = clip.picked
        assert all(abs(frame.measured_yaw - frame.yaw) < 3 for frame in picked.frames)
    assert len(found["ann-b"].picked.more) == 1  # its reference, and a target at 0


def test_captions_of_ones_own_need_their_table(captioned, tmp_path):
    """One that no yaw has is named with the file to write; a new caption is looked at."""
    (captioned / "caption/ann.txt").write_text("look right")
    with pytest.raises(UserError, match=r"ann\.txt: the caption is none of .*prompts\.toml"):
        run(captioned, tmp_path / "out")
    texts = {yaw: prompt(yaw) for yaw in (-60, 0, 60)} | {90: "look right"}
    lines = [f'"{yaw:+d}" = "{text}"' for yaw, text in texts.items()]
    (captioned / "prompts.toml").write_text("\n".join(lines))
    found, _ = run(captioned, tmp_path / "out")
    assert [frame.yaw for frame in found["ann"].picked.frames] == [-60, 0, 90]
    (captioned / "caption/ann_2.txt").unlink()
    with pytest.raises(UserError, match=r"ann_2\.png: has no caption"):
        run(captioned, tmp_path / "out")
