"""`harmoview pairs`: clips of virtual subjects in, training pairs out."""

import json
import runpy
import shutil
from pathlib import Path

import pytest

from datapipe.files import Folder
from jobs import pairs, subjects
from lora_engine.flux.settings import TrainLoraSettings
from lora_engine.flux.training_inputs import training_inputs
from lora_engine.pairs import PairsFolder

YAWS = ("--yaws", "-30", "0", "30")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Two virtual subjects, one of them in two clips, and a file that is no video."""
    folder = tmp_path_factory.mktemp("clips")
    options = ("--count", "2", "--seconds", "2", "--fps", "20", "--size", "400", "--workers", "1")
    assert subjects.main(["--out", str(folder), *options, "--quiet"]) == 0
    for suffix in (".mp4", ".json"):
        shutil.copy(folder / f"subject-000001{suffix}", folder / f"again{suffix}")
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.weights
@pytest.mark.slow
def test_pairs_of_virtual_subjects_can_be_trained_on(clips, tmp_path, capsys):
    """Tables tell coverage, errors and what was left out; the trainer takes the folder."""
    out = tmp_path / "pairs"
    command = [str(clips), "--out", str(out), *YAWS, "--workers", "1"]
    assert pairs.main(command) == 0
    told = capsys.readouterr().out
    assert all(word in told for word in ("unreadable", "broken.mp4", "validation", "measured"))

    made = PairsFolder(Folder(out))
    people = {s.key: s for split in ("train", "validation") for s in made.subjects(split)}
    assert sorted(people) == ["again", "subject-000000", "subject-000001"]
    assert people["again"].person == people["subject-000001"].person
    for subject in people.values():
        assert 0 in subject.yaws
        for frame in subject.frames:
            assert abs(frame.measured_yaw - frame.yaw) <= 3
            assert abs(frame.true_yaw - frame.yaw) <= 10
            assert frame.image().shape == (512, 512, 3)
    rows = [json.loads(line) for line in (out / "clips.jsonl").read_text().splitlines()]
    assert [row["key"] for row in rows] == ["again", "broken", "subject-000000", "subject-000001"]

    before = files(out)
    assert pairs.main([*command, "--quiet"]) == 0
    assert files(out) == before

    flux = Path(__file__).parents[1] / "lora_engine/flux/tiny.py"
    base = runpy.run_path(str(flux))["save_base"](tmp_path / "base")
    settings = TrainLoraSettings(
        str(out), str(tmp_path / "lora"), str(base), yaws=(-30, 0, 30), resolution=(64,)
    )
    assert training_inputs(settings, processes=1).coverage == made.coverage("train")


@pytest.mark.weights
def test_a_corpus_without_a_subject_is_refused(tmp_path, capsys):
    """The message says where the reasons are, and no manifest promises pairs."""
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/broken.mp4").write_bytes(b"no video")
    out = tmp_path / "pairs"
    assert pairs.main([str(tmp_path / "clips"), "--out", str(out), "--workers", "1"]) == 1
    told = capsys.readouterr()
    assert "unreadable" in told.out
    assert "no clip gave a subject" in told.err
    assert not (out / "manifest.json").exists()


def test_a_pose_model_that_is_missing_is_named(tmp_path, capsys):
    """Before any clip is read."""
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/broken.mp4").write_bytes(b"no video")
    model = ["--pose-model", str(tmp_path / "nowhere.onnx")]
    assert pairs.main([str(tmp_path / "clips"), "--out", str(tmp_path / "out"), *model]) == 1
    assert "nowhere.onnx is not a file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [("--tolerance", "0"), ("--validation", "1"), ("--yaws", "30"), ("--side", "10")],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, capsys, option, value):
    """Exit status 2, and the message names the option."""
    assert pairs.main([str(tmp_path), "--out", str(tmp_path / "out"), option, value]) == 2
    assert option in capsys.readouterr().err
