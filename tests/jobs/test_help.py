"""What every command says of itself."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest

import harmoview
from jobs import bench, cli
from jobs.bench import gsb

GROUPS = {"bench": bench.ACTIONS, "bench gsb": gsb.ACTIONS}
COMMANDS = [[name] for name in cli.COMMANDS if name not in GROUPS]
COMMANDS += [
    [*group.split(), action]
    for group, actions in GROUPS.items()
    for action in actions
    if f"{group} {action}" not in GROUPS
]
"""Every command with settings of its own, as typed."""


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_explains_every_option(command, capsys, monkeypatch):
    """Each option and argument of every command stands in its help once, with words beside it, in
    80 columns; the words of tyro's types and None do not."""
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([*command, "--help"]) == 0
    text = capsys.readouterr().out
    rows = re.findall(r"^  (-\S+|[A-Z]\S*)[^\n]*(?:\n {26}[^\n]*)*", text, re.MULTILINE)
    options = [row for row in rows if row.startswith("--")]
    assert {"--settings", "--print-settings"} <= set(options)
    assert len(options) == len(set(options))
    assert max(map(len, text.splitlines())) <= 80
    assert not re.search(r"None|\{|\b(INT|FLOAT|STR)\b", text)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_option_is_without_words(command, capsys):
    """A settings file for a command, given nothing, explains each of its options, and is TOML."""
    assert cli.main([*command, "--print-settings"]) == 0
    text = capsys.readouterr().out
    assert tomllib.loads(text) == {}
    options = text.partition("default:\n")[2].splitlines()
    assert [line for line in options if not re.fullmatch(r"# [\w.-]+ = .+  # .{3,}", line)] == []


def test_help_of_a_command_by_either_word(capsys):
    """`help COMMAND` and `COMMAND --help` say the same."""
    assert cli.main(["help", "pack"]) == 0
    said = capsys.readouterr().out
    assert cli.main(["pack", "--help"]) == 0
    assert capsys.readouterr().out == said


def test_the_most_used_options_come_first(capsys):
    """The first group of `synthesize --help` holds five options at most, what is required first."""
    assert cli.main(["synthesize", "--help"]) == 0
    group = capsys.readouterr().out.partition("most used:\n")[2].partition("\n\n")[0]
    options = re.findall(r"^  (--\S+)", group, re.MULTILINE)
    assert options[0] == "--out"
    assert len(options) <= 5


def test_the_version_is_the_package_s(capsys):
    """`harmoview --version` tells the version that Python code sees."""
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"harmoview {harmoview.__version__}\n"


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
