"""What every command says of itself."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import pytest

from jobs import cli


@pytest.mark.parametrize("command", [name for name in cli.COMMANDS if name != "bench"])
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


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--help"], 0, "usage: harmoview verify"),
        ([], 2, "harmoview verify"),
        (["nowhere"], 1, "harmoview verify: "),
    ],
)
def test_a_command_is_also_a_module(arguments, status, said, tmp_path):
    """`python -m jobs.verify` is `harmoview verify`: a cluster runs commands so."""
    command = [sys.executable, "-m", "jobs.verify", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status
    assert said in done.stdout + done.stderr


def test_help_imports_no_library():
    """`harmoview --help` is instant: it reads nothing that the standard library does not have."""
    code = "import sys; from jobs import cli; cli.main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert not loaded & {"fsspec", "numpy", "pyarrow", "ray", "rich", "torch", "tyro"}


def test_commands_are_imported_without_their_heavy_libraries():
    """So that arguments are checked at once: Ray and torch are imported where they are used."""
    modules = [f"jobs.{name.replace('-', '_')}" for name in cli.COMMANDS]
    code = f"import sys; [__import__(name) for name in {modules}]; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"decord", "diffusers", "insightface", "onnxruntime", "ray", "torch"}
