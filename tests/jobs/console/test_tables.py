"""What commands print fits a terminal of 80 columns."""

import ast
import io
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

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


texts = st.lists(st.text("aé日.%", min_size=1, max_size=12), max_size=12).map(" ".join)
shapes = st.integers(1, 14).flatmap(
    lambda columns: st.tuples(
        st.lists(texts, min_size=columns, max_size=columns, unique=True),
        st.lists(st.lists(texts, min_size=columns, max_size=columns), max_size=4),
        st.lists(st.booleans(), min_size=columns, max_size=columns),
    )
)


@given(shapes)
def test_whatever_a_table_holds_fits(shape):
    """At 80 columns no line is longer, and every word of every cell is there whole; at 2000 the
    table is in one piece."""
    heads, rows, folds = shape
    table = output.new_table(
        "a table", *heads, words=[head for head, fold in zip(heads, folds, strict=True) if fold]
    )
    for row in rows:
        table.add_row(*map(Text, row))
    printed = {}
    for columns in (COLUMNS, 2000):
        file = io.StringIO()
        Console(file=file, width=columns, highlight=False).print(table)
        printed[columns] = file.getvalue().splitlines()
    assert max(map(cell_len, printed[COLUMNS])) <= COLUMNS
    assert words(" ".join(sum(rows, heads))) <= words("\n".join(printed[COLUMNS]))
    assert sum("─" in line for line in printed[2000]) == 1


@given(st.lists(st.from_regex(r"-?[0-9]{1,5}(\.[0-9]{1,3})?", fullmatch=True), min_size=1))
def test_decimal_points_stand_below_each_other(numbers):
    """Whatever the numbers of a column are; whole ones end where the others have their points."""
    table = output.new_table("a table", "name", "number")
    for number in numbers:
        table.add_row("x", number)
    file = io.StringIO()
    Console(file=file, width=COLUMNS).print(table)
    lines = [line for line in file.getvalue().splitlines() if line.startswith("  x")]
    assert [line.split()[1] for line in lines] == numbers
    if any("." in number for number in numbers):
        assert len({re.search(r"\d(?=\.|\s|$)", line).end() for line in lines}) == 1


def test_no_table_is_made_elsewhere():
    """All of a command's tables come from `new_table`, so that what is said above holds of them."""
    makers = {
        path.name
        for path in (Path(cli.__file__).parent).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Table", "FittedTable")
    }
    assert makers == {"fitted.py", "output.py"}


def words(lines):
    """How often each word of a text is there, without its lines."""
    return Counter(word for word in re.split(r"[\s─]+", lines) if word)


def fits(printed, capsys, monkeypatch):
    """At 80 columns every line fits but one with a path, and no word is missing that is at 200."""
    texts = []
    for columns in (COLUMNS, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        printed()
        texts.append(capsys.readouterr().out)
    assert not [line for line in texts[0].splitlines() if len(line) > COLUMNS and "/" not in line]
    assert words(texts[1]) <= words(texts[0])


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
