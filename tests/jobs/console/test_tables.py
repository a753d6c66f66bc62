"""What commands print fits a terminal of 80 columns."""

import re

import pytest

from filters.calibrate.bounds import Bound, Bounds
from filters.calibrate.comparisons import Share
from filters.calibrate.identity import RulesFar, YawIdentity
from filters.calibrate.result import Calibration
from filters.rules_file import load_rules
from jobs import cli
from jobs.console import output
from jobs.console.calibrate import print_calibration
from tests.datapipe.runs import TinyRun, good

COLUMNS = 80
RULES = load_rules(None, yaws=(0,), recogniser="sface", aesthetic_scorer="brisque")


@pytest.fixture
def run(tmp_path):
    """A sample that is kept, and one that fails in several ways."""
    tiny = TinyRun(tmp_path)
    tiny.add("subject-000001", caption="a person looks around")
    bad = {yaw: good(yaw, sharpness=0.1) for yaw in (-90, -60, 60)}
    tiny.add("out-of-focus", [bad | {30: good(30, measured_yaw=55.0)}], caption="")
    tiny.save()
    (tmp_path / "strict.toml").write_text("minimum_views = 7\n[sharpness]\nminimum = 0.25\n")
    return tmp_path


def words(lines):
    """The words of a text without its lines, in order of the alphabet."""
    return sorted(word for word in re.split(r"[\s─]+", lines) if word)


def fits(printed, capsys, monkeypatch):
    """At 80 columns every line fits but one with a path, and each word is there that is at 200."""
    texts = []
    for columns in (COLUMNS, 200):
        monkeypatch.setattr(output, "PIPED_WIDTH", columns)
        printed()
        texts.append(capsys.readouterr().out)
    assert not [line for line in texts[0].splitlines() if len(line) > COLUMNS and "/" not in line]
    assert words(texts[0]) == words(texts[1])


@pytest.mark.parametrize(
    "command",
    [
        "stats {run}",
        "show {run} out-of-focus",
        "rules diff default {strict} --run {run}",
        "bench paper",
    ],
)
def test_no_line_is_too_long_and_no_word_cut(run, capsys, monkeypatch, command):
    """Tables fold between words."""
    monkeypatch.chdir(run)  # whose own path may be as long as it likes
    argv = command.format(run="run", strict="strict.toml").split()
    fits(lambda: cli.main(argv), capsys, monkeypatch)


def test_nor_in_a_calibration(capsys, monkeypatch):
    """With every number as long as it gets."""
    whole, cosine = Share(1.0, 0.347, 1.0), (0.679, 0.631, 0.714)
    identity = [
        YawIdentity(
            yaw, 12_000, 72_000, 2_520_000, 0, 0.862, 0.7, 0.679, whole, *cosine, whole, None,
            whole, "asked", "",
        )
        for yaw in (0, 30, 60, 90)
    ]  # fmt: skip
    bound = Bound(60, 72_000, -1.25, 12.25, 0.95)
    bounds = Bounds((bound,), Bound(90, 72_000, 88.0, 85.0, 0.95), *[(bound,)] * 3)
    far = [RulesFar(yaw, 0.363, Share(1.0, 0.347, 1.0), 0.862) for yaw in (0, 30, 60, 90)]
    found = Calibration(
        "sface", {}, 0.01, 0.5, 0.6, 36, 0, 36, identity, far, bounds, RULES, None, "none", None
    )
    fits(lambda: print_calibration(found), capsys, monkeypatch)
