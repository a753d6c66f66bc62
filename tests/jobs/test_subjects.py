"""Laws of `harmoview subjects`."""

import json

import pytest

from jobs.subjects import main

SMALL = ["--seconds", "0.5", "--fps", "4", "--size", "96", "--workers", "1", "--quiet"]


@pytest.mark.weights
@pytest.mark.slow
def test_clips_appear_with_caption_and_truth_and_are_kept(tmp_path, capsys):
    """Every clip is an mp4 with a txt and a json; a second run makes only what is new."""
    out = ["--out", str(tmp_path)]
    assert main([*out, "--count", "1", "--faceless", "1", *SMALL]) == 0
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    stems = ("subject-000000", "empty-000000")
    assert set(first) == {f"{stem}.{kind}" for stem in stems for kind in ("mp4", "txt", "json")}
    truth = json.loads(first["subject-000000.json"])
    assert truth["caption"] == first["subject-000000.txt"].decode()
    frame = truth["people"][0]["frames"][0]
    assert set(frame) == {"yaw", "pitch", "roll", "points", "box"}
    capsys.readouterr()
    assert main([*out, "--count", "2", "--faceless", "1", *SMALL]) == 0
    assert "1 clips made, 2 there before" in capsys.readouterr().out
    assert all((tmp_path / name).read_bytes() == data for name, data in first.items())


@pytest.mark.weights
@pytest.mark.parametrize("workers", ["1", "2"])
def test_nothing_is_made_where_every_clip_is_there(tmp_path, capsys, workers):
    """As in a second `make demo`."""
    for number in range(2):
        (tmp_path / f"subject-{number:06d}.mp4").touch()
    assert main(["--out", str(tmp_path), "--count", "2", *SMALL, "--workers", workers]) == 0
    assert "0 clips made, 2 there before" in capsys.readouterr().out
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "wrong",
    [["--count", "0"], ["--count", "-1"], ["--count", "1", "--size", "33"], ["--count", "x"], []],
)
def test_wrong_arguments_exit_with_two(tmp_path, wrong, capsys):
    """What cannot be made is refused before anything is written."""
    assert main(["--out", str(tmp_path / "clips"), *wrong]) == 2
    assert capsys.readouterr().err
    assert not (tmp_path / "clips").exists()


def test_missing_models_are_the_users_to_fetch(tmp_path, monkeypatch, capsys):
    """Without the data files the command says what to run, without a traceback."""
    monkeypatch.setenv("HARMOVIEW_HOME", str(tmp_path))
    assert main(["--out", str(tmp_path / "clips"), "--count", "1", "--quiet"]) == 1
    assert "harmoview models fetch" in capsys.readouterr().err
