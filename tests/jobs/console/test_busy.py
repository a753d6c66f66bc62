"""What stats and rules diff show while they work."""

from __future__ import annotations

import io

import pytest

from jobs import cli
from tests.datapipe.runs import TinyRun


class Terminal(io.StringIO):
    """Takes what is written to a terminal."""

    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["stats", "{run}", "--html", "{run}/report.html"], "drawing the report"),
        (["rules", "diff", "default", "default", "--run", "{run}"], "judging the scores twice"),
    ],
)
def test_a_terminal_sees_what_is_being_done_a_log_and_quiet_do_not(
    tmp_path, monkeypatch, command, says
):
    """On stderr."""
    tiny = TinyRun(tmp_path)
    tiny.add("a", [{}])
    tiny.save()
    words = [word.format(run=tmp_path / "run") for word in command]
    monkeypatch.setenv("TERM", "xterm")

    def on_stderr(stream, *more):
        monkeypatch.setattr("sys.stderr", stream)
        assert cli.main([*words, *more]) == 0
        return stream.getvalue()

    assert says in on_stderr(Terminal())
    assert on_stderr(Terminal(), "--quiet") == ""
    assert on_stderr(io.StringIO()) == ""
