"""`harmoview stats` as a user meets it."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from jobs import pack, stats
from tests.datapipe.runs import TinyRun, good


@pytest.fixture
def run(tmp_path):
    tiny = TinyRun(tmp_path)
    tiny.add("a", [{-90: good(-90, sharpness=100.0)}])
    tiny.add("b", [{30: good(30, measured_yaw=55.0)}])
    tiny.reject("noface")
    tiny.save()
    return tmp_path / "run"


def shown(capsys, *arguments):
    assert stats.main([str(word) for word in arguments]) == 0
    return capsys.readouterr().out


def test_the_tables_are_plain_text_in_a_pipe(run, capsys):
    """No escape sequences, nothing cut off, the numbers where one looks for them."""
    out = shown(capsys, run)
    assert "\x1b" not in out
    assert "…" not in out
    (row,) = [line for line in out.splitlines() if line.strip().startswith("+30°")]
    assert row.split() == ["+30°", "2", "2", "1", "50%", "1", "1", "pose"]
    (row,) = [line for line in out.splitlines() if "no_face" in line]
    assert row.split() == ["rejected", "no_face", "1", "noface"]


def test_json_is_one_document(run, capsys):
    """For programs: stdout parses, and has a format number."""
    found = json.loads(shown(capsys, run, "--json"))
    assert found["format"] == 1
    assert found["funnel"]["views_made"] == 14
    assert [yaw["yield"] for yaw in found["yaws"]] == [1.0, 1.0, 1.0, 1.0, 0.5, 1.0, 1.0]


def test_a_rules_file_changes_the_counts_and_nothing_else(run, tmp_path, capsys):
    """Other thresholds are tried on the spot; the run stays as it is."""
    rules = tmp_path / "strict.toml"
    rules.write_text("[sharpness]\nminimum = 500.0\n")
    before = sorted(path for path in run.rglob("*"))
    found = json.loads(shown(capsys, run, "--json", "--rules", rules))
    assert found["yaws"][0]["passed"] == 1
    assert sorted(path for path in run.rglob("*")) == before


def test_the_rules_of_the_last_pack_are_the_default(run, tmp_path, capsys):
    """What was packed is what is counted, unless other rules are asked for."""
    rules = tmp_path / "strict.toml"
    rules.write_text("[sharpness]\nminimum = 500.0\n")
    assert pack.main([str(run), "--quiet", "--rules", str(rules)]) == 0
    found = json.loads(shown(capsys, run, "--json"))
    assert found["yaws"][0]["passed"] == 1
    assert found["packed_with_these_rules"] is True


def test_a_contact_sheet_on_request(run, tmp_path, capsys):
    """A picture appears where it was asked for."""
    path = tmp_path / "sheet.jpg"
    assert str(path) in shown(capsys, run, "--sheet", path)
    assert Image.open(path).format == "JPEG"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["{tmp}"], 1, "is not a run folder"),
        (["{run}", "--sheet", "{tmp}/clips/a.mp4/x.jpg"], 1, "cannot write"),
        (["{run}", "--sheet-samples", "0"], 2, "--sheet-samples must be from 1 to 100"),
    ],
)
def test_mistakes_end_in_one_message(run, tmp_path, capsys, arguments, status, says):
    """No traceback for a user's mistake."""
    words = [word.format(run=run, tmp=tmp_path) for word in arguments]
    assert stats.main(words) == status
    errors = capsys.readouterr().err
    assert says in errors
    assert "Traceback" not in errors


def test_counting_loads_no_model_library(run):
    """A whole `harmoview stats` runs without torch, ray and cv2."""
    code = (
        f"import sys\nfrom jobs import stats\nassert stats.main([{str(run)!r}]) == 0\n"
        "assert not {'torch', 'ray', 'cv2', 'onnxruntime'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
