"""`harmoview profile` on real parts."""

import pstats

import pytest

from jobs import profile
from tests.datapipe.media import numbered, write_video
from tests.jobs.people import person


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--limit", "0"], "--limit must be at least 1, not 0"),
        (["--cpus", "0"], "--cpus must be above 0"),
        (["--gpus", "-1"], "--gpus must be above 0"),
    ],
)
def test_wrong_numbers_are_refused(options, said, tmp_path, capsys):
    """Exit status 2 and the option's name."""
    assert profile.main([str(tmp_path), "--out", str(tmp_path / "out"), *options]) == 2
    assert said in capsys.readouterr().err


def test_an_empty_corpus_is_said(tmp_path, capsys):
    """Exit status 1, nothing written."""
    (tmp_path / "clips").mkdir()
    assert profile.main([str(tmp_path / "clips"), "--out", str(tmp_path / "out")]) == 1
    assert "clips: no video in it" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.weights
def test_two_clips_are_profiled(tmp_path, capsys):
    """Stages, functions, the bound for the cluster asked for, and the file."""
    clips = tmp_path / "clips"
    clips.mkdir()
    write_video(clips / "person.mp4", person("P005", 448, 8))
    write_video(clips / "nobody.mp4", numbered(20))
    out = tmp_path / "out"
    assert profile.main([str(clips), "--out", str(out), "--cpus", "64", "--quiet"]) == 0
    text = capsys.readouterr().out
    assert "2 samples (1 candidate, 1 rejected)" in text
    assert [line.split()[:2] for line in text.splitlines() if "%" in line][:3] == [
        ["prepare", "2"],
        ["synthesize", "1"],
        ["score", "1"],
    ]
    assert " bounds the line: 64 CPU workers at " in text
    functions = {name for _, _, name in pstats.Stats(str(out / "functions.pstats")).stats}
    assert {"apply", "sharpness"} <= functions
    assert profile.main([str(clips), "--out", str(out), "--limit", "1", "--quiet"]) == 0
    text = capsys.readouterr().out  # of nobody alone
    assert "No video came as far as synthesize and score" in text
    assert "CPU workers at" not in text
