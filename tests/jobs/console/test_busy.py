"""What stats and rules diff show while they work."""

from __future__ import annotations

import functools
import os
import pty
import subprocess
import sys

import pytest

from tests.datapipe.runs import TinyRun


@pytest.fixture
def run(tmp_path):
    tiny = TinyRun(tmp_path)
    tiny.add("a", [{}])
    tiny.save()
    return tmp_path / "run"


def on_stderr(arguments, terminal):
    """What the command writes there, on a terminal or into a pipe."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    command = [sys.executable, "-m", "jobs.cli", *arguments]
    environment = {**os.environ, "TERM": "xterm"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment)
    os.close(theirs)
    with os.fdopen(ours, "rb", buffering=0) as reader:
        said = b"".join(iter(functools.partial(_some, reader), b""))
    assert process.wait() == 0, said
    return said.decode()


def _some(reader):
    try:
        return reader.read(4096)
    except OSError:  # how a terminal says that nobody writes to it any more
        return b""


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["stats", "{run}", "--html", "{run}/report.html"], "drawing the report"),
        (["rules", "diff", "default", "default", "--run", "{run}"], "judging the scores twice"),
    ],
)
def test_a_terminal_sees_what_is_being_done_a_log_and_quiet_do_not(run, command, says):
    """On stderr."""
    words = [word.format(run=run) for word in command]
    assert says in on_stderr(words, terminal=True)
    assert on_stderr([*words, "--quiet"], terminal=True) == ""
    assert on_stderr(words, terminal=False) == ""
