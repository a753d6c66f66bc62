"""What the tab key offers."""

import subprocess
import sys

import pytest

from jobs.cli import COMMANDS, LEVELS
from jobs.console.help import complete


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("harmoview ", list(COMMANDS)),
        ("harmoview tr", ["train-lora", "train"]),
        ("harmoview help ver", ["verify"]),
        ("harmoview bench gsb st", ["stats"]),
        ("harmoview rules ", ["diff"]),
        ("harmoview synthesize videos --real-f", []),
        ("harmoview synthesize videos --engine ", ["none", "mesh", "flux"]),
        ("harmoview synthesize videos --engine m", ["mesh"]),
        ("harmoview stats --log-level w", ["warning"]),
        ("harmoview stats run --ht", ["--html"]),
        ("harmoview stats run --html ", []),
        ("harmoview nothing --", []),
        ("harmoview stats 'my ru", []),
    ],
)
def test_what_may_follow_is_offered(line, offered):
    """Commands, actions, options and choices by what is typed; nothing where a file is wanted."""
    assert sorted(complete(COMMANDS, LEVELS, line)) == sorted(offered)


def test_what_stands_behind_the_cursor_is_not_looked_at():
    """The tab key may be pressed within a line."""
    assert complete(COMMANDS, LEVELS, "harmoview st run", str(len("harmoview st"))) == ["stats"]


def test_bash_completes_by_the_documented_line(tmp_path):
    """The line of docs/commands.md, in a bash without a terminal."""
    script = (
        'complete -o default -C "$PYTHON -m jobs.cli --complete" harmoview; '
        'COMP_LINE="harmoview sub" COMP_POINT=13 $PYTHON -m jobs.cli --complete; complete -p'
    )
    done = subprocess.run(
        ["bash", "-c", script], env={"PYTHON": sys.executable}, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[:2] == ["subjects", "submit"]
    assert "harmoview" in done.stdout
