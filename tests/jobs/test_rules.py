"""`harmoview rules diff` as a user meets it."""

import json

import pytest
from PIL import Image

from jobs import cli, pack
from tests.datapipe.runs import TinyRun, good


@pytest.fixture
def run(tmp_path):
    tiny = TinyRun(tmp_path)
    tiny.add("a", [{-90: good(-90, sharpness=0.5)}])
    tiny.add("b", [{yaw: good(yaw, sharpness=0.5) for yaw in (-90, -60, 60, 90)}])
    tiny.save()
    (tmp_path / "strict.toml").write_text("[sharpness]\nminimum = 0.6\n")
    return tmp_path / "run"


def diffed(capsys, *arguments):
    assert cli.main(["rules", "diff", *(str(word) for word in arguments)]) == 0
    return capsys.readouterr().out


def test_the_tables_say_what_changes(run, tmp_path, capsys):
    """The rule, the views by yaw, the samples with examples; no escape sequence in a pipe."""
    out = diffed(capsys, "default", tmp_path / "strict.toml", "--run", run)
    assert "\x1b" not in out
    (rule,) = [line for line in out.splitlines() if "sharpness.minimum" in line]
    assert rule.split() == ["sharpness.minimum", "0.18", "0.6"]
    (yaw,) = [line for line in out.splitlines() if line.strip().startswith("-90°")]
    assert yaw.split() == ["-90°", "2", "0", "2", "0", "2", "0", "2", "blurred"]
    (samples,) = [line for line in out.splitlines() if line.strip().startswith("samples")]
    assert samples.split() == ["samples", "2", "1", "1", "0", "1"]
    assert "packed only by A: b" in out
    assert "packed by both, with other views: a" in out


def test_json_is_one_document(run, tmp_path, capsys):
    """Counts, examples and the rules that differ."""
    found = json.loads(diffed(capsys, "default", tmp_path / "strict.toml", "--run", run, "--json"))
    assert found["format"] == 1
    assert found["rules"] == [{"key": "sharpness.minimum", "a": 0.18, "b": 0.6}]
    assert found["samples"]["lost_examples"] == ["b"]


def test_packed_is_what_the_shards_hold(run, tmp_path, capsys):
    """The word stands for the rules of RUN/shards."""
    strict = tmp_path / "strict.toml"
    assert pack.main([str(run), "--quiet", "--rules", str(strict)]) == 0
    out = diffed(capsys, "packed", strict, "--run", run)
    assert "The rules are the same for this run." in out


def test_a_sheet_on_request(run, tmp_path, capsys):
    """It appears where it was asked for."""
    path = tmp_path / "sheet.jpg"
    options = ["--run", run, "--sheet", path]
    assert str(path) in diffed(capsys, "default", tmp_path / "strict.toml", *options)
    assert Image.open(path).format == "JPEG"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["diff", "default", "packed", "--run", "{run}"], 1, "no finished pack"),
        (["diff", "default", "{tmp}/none.toml", "--run", "{run}"], 1, "cannot read the rules file"),
        (["diff", "default", "default", "--run", "{tmp}"], 1, "is not a run folder"),
        (["diff", "default", "default"], 2, "--run"),
        (["diff", "default", "default", "--run", "x", "--sheet-views", "0"], 2, "--sheet-views"),
        (["dif", "default", "default", "--run", "x"], 2, "mean diff"),
        ([], 2, "diff"),
    ],
)
def test_mistakes_end_in_one_message(run, tmp_path, capsys, arguments, status, says):
    """No traceback for a user's mistake."""
    words = [word.format(run=run, tmp=tmp_path) for word in arguments]
    assert cli.main(["rules", *words]) == status
    errors = capsys.readouterr().err
    assert says in errors
    assert "Traceback" not in errors


def test_the_list_of_commands_has_it(capsys):
    """`harmoview --help` says what rules are for."""
    assert cli.main(["--help"]) == 0
    assert "rules" in capsys.readouterr().out
