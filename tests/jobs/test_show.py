"""`harmoview show` as a user meets it."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from PIL import Image

from jobs import pack, show
from tests.datapipe.runs import TinyRun, good

HOSTILE = "\x1b[2J\x1b]0;owned\x07 [bold]not markup[/] \u202etxt.exe\nnext line"


@pytest.fixture
def run(tmp_path):
    tiny = TinyRun(tmp_path)
    tiny.add("a", [{-90: good(-90, sharpness=0.1)}], caption=HOSTILE)
    tiny.reject("noface")
    tiny.reject("broken", "error", "exception")
    last = tiny.samples[-1]
    detail = f"Traceback (most recent call last):\n  {HOSTILE}\nValueError: no"
    tiny.samples[-1] = replace(last, stopped=replace(last.stopped, detail=detail))
    tiny.save()
    return tmp_path / "run"


def shown(capsys, *arguments):
    assert show.main([str(word) for word in arguments]) == 0
    return capsys.readouterr().out


def test_text_tells_the_decision_with_its_numbers(run, capsys):
    """A line for each view; what fails is followed by the rule and by how much."""
    lines = shown(capsys, run, "a").splitlines()
    (place,) = [number for number, line in enumerate(lines) if line.strip().startswith("-90°")]
    assert lines[place].split()[-1] == "blurred"
    assert "sharpness 0.1 is under 0.18" in lines[place + 1]
    views = [line for line in lines if not line.strip().startswith("seen")]
    assert sum(line.endswith("passes") for line in views) == 7
    assert sum(line.endswith("passes") for line in lines) == 8  # the one window too


@pytest.mark.parametrize("key", ["a", "broken"])
def test_nothing_of_the_corpus_steers_the_terminal(run, capsys, key):
    """Captions and tracebacks are shown with their control characters written out."""
    out = shown(capsys, run, key)
    assert not set("\x1b\x07\x9b\r\u202e") & set(out)
    assert "\\x1b[2J" in out
    assert "[bold]not markup[/]" in out


def test_json_is_one_document(run, capsys):
    """For programs: stdout parses, has a format number, and keeps the caption to the letter."""
    story = json.loads(shown(capsys, run, "a", "--json"))
    assert story["format"] == 1
    assert story["caption"] == HOSTILE


def test_a_picture_on_request(run, tmp_path, capsys):
    """It appears where it was asked for."""
    path = tmp_path / "a.jpg"
    assert str(path) in shown(capsys, run, "a", "--image", path)
    assert Image.open(path).format == "JPEG"


def test_rules_are_those_asked_for_else_those_packed(run, tmp_path, capsys):
    """A rules file is tried on the spot; the shard is the one that the pack wrote."""
    rules = tmp_path / "soft.toml"
    rules.write_text("[sharpness]\nminimum = 0.0\nratio = 0.0\n")
    assert pack.main([str(run), "--quiet"]) == 0
    views = json.loads(shown(capsys, run, "a", "--json"))["identities"][0]["views"]
    assert views[0]["decision"]["reason"] == "blurred"
    tried = json.loads(shown(capsys, run, "a", "--json", "--rules", rules))
    assert tried["identities"][0]["views"][0]["decision"]["passed"]
    assert tried["packed"]["shard"] == "000000.tar"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["{tmp}", "a"], 1, "is not a run folder"),
        (["{run}", "b"], 1, "the nearest keys are"),
        (["{run}"], 2, "KEY"),
        (["{run}", "a", "--rules", "{tmp}/nothing.toml"], 1, "cannot read the rules file"),
        (["{run}", "a", "--image", "{tmp}/clips/a.mp4/x.jpg"], 1, "cannot write"),
    ],
)
def test_mistakes_end_in_one_message(run, tmp_path, capsys, arguments, status, says):
    """No traceback for a user's mistake."""
    assert show.main([word.format(run=run, tmp=tmp_path) for word in arguments]) == status
    errors = capsys.readouterr().err
    assert says in errors
    assert "Traceback" not in errors


def test_showing_loads_no_model_library(run):
    """A whole `harmoview show` runs without torch, ray and cv2."""
    code = (
        f"import sys\nfrom jobs import show\nassert show.main([{str(run)!r}, 'a']) == 0\n"
        "assert not {'torch', 'ray', 'cv2', 'onnxruntime'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
