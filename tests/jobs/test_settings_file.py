"""Settings files: an experiment is a file."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.cli import run
from jobs.settings_file import options_of
from tests.jobs.test_arguments import Example, Part

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
words = text.filter(lambda word: not word.startswith("-"))


def executed(*argv):
    """The settings that the example command is executed with; None where it is refused."""
    seen = []
    status = run(Example, seen.append, argv, "example")
    assert status == (0 if seen else 2)
    return seen[0] if seen else None


examples = st.builds(
    Example,
    source=words,
    out=words.map(Path),
    engine=st.sampled_from(["mesh", "flux"]),
    learning_rate=st.none() | st.floats(0, exclude_min=True, allow_infinity=False),
    yaws=st.lists(st.integers(-90, 90), min_size=1).map(tuple),
    compile=st.none() | st.booleans(),
    quiet=st.booleans(),
    part=st.builds(Part, st.floats(allow_nan=False, allow_infinity=False)),
)


@given(settings=examples)
def test_recorded_options_give_the_settings_again(settings, tmp_path_factory):
    """What a run's folder records of its options makes the same settings, the folder named alone;
    likewise the settings file that is printed for them."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "run.json").write_text(json.dumps({"options": options_of(settings)}))
    assert executed("--settings", str(folder)) == settings
    assert executed("--settings", str(folder / "run.json")) == settings


@given(settings=examples)
def test_a_printed_file_gives_the_settings_again(settings, tmp_path_factory):
    """--print-settings prints TOML, from which --settings makes what it was printed for."""
    import contextlib
    import io

    folder = tmp_path_factory.mktemp("run")
    (folder / "run.json").write_text(json.dumps({"options": options_of(settings)}))
    with contextlib.redirect_stdout(io.StringIO()) as out:
        argv = ["--settings", str(folder), "--print-settings"]
        assert run(Example, pytest.fail, argv, "example") == 0
    (folder / "same.toml").write_text(out.getvalue(), encoding="utf-8")
    assert executed("--settings", str(folder / "same.toml")) == settings


@pytest.fixture
def file(tmp_path):
    """Writes a settings file; returns the words that name it."""

    def write(content):
        path = tmp_path / "example.toml"
        path.write_text(content)
        return ["--settings", str(path)]

    return write


def test_the_command_line_wins(file):
    """Options of the command line replace those of the file, a switch is taken back by --no-."""
    content = """
        source = "a"
        out = "b"
        learning_rate = 1
        yaws = [1, 2]
        quiet = true
        [part]
        max-yaw = 3
    """
    assert executed(*file(content)) == Example(
        "a", Path("b"), "mesh", 1.0, (1, 2), None, True, Part(3.0)
    )
    argv = [*file(content), "c", "--yaws", "5", "--no-quiet", "--part.max-yaw", "4"]
    assert executed(*argv) == Example("c", Path("b"), "mesh", 1.0, (5,), None, False, Part(4.0))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("learning-rat = 1", "learning-rate"),
        ("learning-rate = 'fast'", "a number"),
        ("learning-rate = true", "True"),
        ("quiet = 1", "quiet"),
        ("engine = 'mehs'", "mesh"),
        ("engine = ['mesh', 'flux']", "engine"),
        ("part.yaw = 1", "part"),
        ("out = ", "example.toml"),
    ],
)
def test_a_mistake_in_a_file_is_told_in_a_sentence(content, said, file, capsys):
    """The sentence names the file and what is wrong in it; the status is 2."""
    assert executed(*file(content), "a", "--out", "b") is None
    (line,) = capsys.readouterr().err.splitlines()
    assert "example.toml" in line
    assert said in line


def test_what_is_given_is_printed_and_nothing_done(tmp_path, capsys):
    """--print-settings needs no more than what is given, and prints exactly that as TOML."""
    argv = ["--print-settings", "--yaws", "1", "--out", str(tmp_path / "out")]
    assert run(Example, pytest.fail, argv, "example") == 0
    assert tomllib.loads(capsys.readouterr().out) == {"yaws": [1], "out": str(tmp_path / "out")}
    assert not (tmp_path / "out").exists()


def test_options_are_those_off_their_defaults():
    """A record holds what was chosen, and not every default of its day."""
    settings = Example("a", Path("b"), part=Part(2.0))
    assert options_of(settings) == {"source": "a", "out": "b", "part.max-yaw": 2.0}
    assert asdict(settings)["quiet"] is False
