"""Laws of `harmoview bench` as a command."""

import json
import subprocess
import sys

import pytest

from jobs import bench, cli
from jobs.bench import gsb


@pytest.mark.parametrize("group", [["bench"], ["bench", "gsb"]])
def test_a_mistyped_action_names_the_nearest(group, capsys):
    """Exit status 2, and one line on stderr."""
    actions = bench.ACTIONS if group == ["bench"] else gsb.ACTIONS
    name = next(iter(actions))
    assert cli.main([*group, name + "x"]) == 2
    assert f"did you mean {name}?" in capsys.readouterr().err
    assert cli.main(group) == 0
    listed = capsys.readouterr().out
    assert all(action in listed for action in actions)


def test_paper_as_json_has_every_row(capsys):
    """Table, method, paper, predicted, residual, flagged, sixteen times."""
    assert cli.main(["bench", "paper", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert len(rows) == 16
    first = {name: rows[0][name] for name in ("table", "method", "paper", "flagged")}
    assert first == {"table": 1, "method": "VACE", "paper": 67.74, "flagged": False}
    assert rows[0]["predicted"] + rows[0]["residual"] == pytest.approx(67.74)


def test_paper_as_tables_needs_no_torch():
    """The pure parts import neither torch nor Ray."""
    script = (
        "import sys\nfrom jobs.bench import main\nassert main(['paper']) == 0\n"
        "assert not {'torch', 'ray', 'cv2'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("not rounding") == 3


def test_gsb_stats_of_votes_in_a_file(tmp_path, capsys):
    """The statistics of a matrix of votes, as JSON."""
    file = tmp_path / "votes.json"
    file.write_text(json.dumps([list("GGG"), list("GGS"), list("SSB"), list("GSB")]))
    assert cli.main(["bench", "gsb", "stats", "--votes", str(file)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["majority"], found["net"], found["win_rate"]) == (list("GGSS"), 0.5, 0.75)
    assert found["alpha_ordinal"] == pytest.approx(0.3660, abs=5e-5)
    assert found["alpha_nominal"] == pytest.approx(0.1250, abs=5e-5)
    assert found["kappa"] == pytest.approx(0.0455, abs=5e-5)


@pytest.mark.parametrize("content", ["", "{}", "[]", '[["X"]]', '[["G"],["G","S"]]', "[1]"])
def test_gsb_stats_refuses_what_are_no_votes(content, tmp_path, capsys):
    """Exit status 1, and a sentence that names the file."""
    file = tmp_path / "votes.json"
    file.write_text(content)
    assert cli.main(["bench", "gsb", "stats", "--votes", str(file)]) == 1
    assert str(file) in capsys.readouterr().err
