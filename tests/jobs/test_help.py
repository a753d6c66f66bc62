"""What every command says of itself."""

from __future__ import annotations

import io
import re
import sys

import pytest

from jobs import cli


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_explains_every_option(command, monkeypatch):
    """Each option and argument has words besides its name, its form and its default; a switch that
    is on by default is not explained under the name that switches it off."""
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), "utf-8"))
    assert cli.main([command, "--help"]) == 0
    sys.stdout.seek(0)
    known = explained(sys.stdout.read())
    assert "-h, --help" in known
    assert [form for form, words in known.items() if not without_default(words)] == []
    switches = {form: words for form, words in known.items() if "(default: True)" in words}
    assert [form for form in switches if " " not in form] == []


def explained(text):
    """The words beside each option and argument, with its default."""
    known = {}
    for box in re.findall(r"^╭.*?^╰", text, re.MULTILINE | re.DOTALL):
        rows = [line[2:-1].rstrip() for line in box.splitlines() if line.startswith("│")]
        ruled = [number for number, row in enumerate(rows) if set(row) == {"─"}]
        for row in rows[ruled[0] + 1 if ruled else 0 :]:
            form, _, words = row.partition("  ")
            if form:
                known[last := form] = words.strip()
            else:
                known[last] += f" {words.strip()}"
    return known


def without_default(words):
    return re.sub(r"\((default: .*|required|optional)\)$", "", words.strip()).strip()
