"""Command lines: what is given, and what is said of a mistyped one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from datapipe.errors import check_range
from jobs.arguments import nearest
from jobs.cli import run


@dataclass(frozen=True)
class Part:
    """A part with a prefix."""

    max_yaw: float = 15.0
    """Degrees."""


@dataclass(frozen=True)
class Example:
    """A command of every kind of argument."""

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE")]
    """Where from."""
    out: Path
    """Where to."""
    engine: Literal["mesh", "flux"] = "mesh"
    """Which engine."""
    learning_rate: float | None = None
    """How fast."""
    yaws: tuple[int, ...] = (0, 30)
    """Degrees."""
    compile: bool | None = None
    """Whether to compile."""
    quiet: bool = False
    """Say nothing."""
    part: Part = field(default_factory=Part)

    def __post_init__(self):
        check_range(self, "learning_rate", above=0)


@pytest.fixture
def ran():
    """Runs the example command; the settings it was executed with, or None, and the status."""

    def run_it(*argv):
        seen = []
        status = run(Example, seen.append, argv, "example")
        return (seen[0] if seen else None), status

    return run_it


def test_options_reach_the_settings(ran):
    """Values come after the option or its =, with - or _ in its name; many end at an option."""
    argv = "--learning_rate 1e-4 a --out=b --yaws -30 0 --part.max-yaw 3 --compile false --quiet"
    settings, status = ran(*argv.split())
    assert status == 0
    assert settings == Example("a", Path("b"), "mesh", 1e-4, (-30, 0), False, True, Part(3.0))


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("a --out b --lr 1", "--learning-rate"),
        ("a --out b --learningrate 1", "--learning-rate"),
        ("a --out b --max-yaw 1", "--part.max-yaw"),
        ("a --output b", "--out"),
        ("a --out b --setings c", "--settings"),
        ("a --out b --engine mehs", "mesh"),
        ("a --out b --engine", "mesh|flux"),
        ("a --out b --learning-rate fast", "a number"),
        ("a --out b --learning-rate -1", "--learning-rate"),
        ("a --out b --yaws 0 left", "whole numbers"),
        ("a --out b --part.max-yaw", "--part.max-yaw"),
        ("a b --out c", "'b'"),
        ("a --out b --quiet=1", "--quiet"),
        ("a --out b -q", "-q"),
        ("", "SOURCE and --out"),
        ("a --out b --log-level loud", "--log-level"),
        ("a --out b --settings", "--settings"),
        ("a --out b --settings nowhere.toml", "nowhere.toml"),
    ],
)
def test_a_mistyped_command_line_is_told_in_a_sentence(argv, said, ran, capsys):
    """One line on stderr names what is wrong and what is there instead; the status is 2."""
    assert ran(*argv.split()) == (None, 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert said in err


def test_every_name_is_nearest_to_itself():
    """What there is is never taken for something else."""
    names = ["out", "output", "steps", "step", "sample-steps", "part.steps", "s"]
    assert [nearest(name, names) for name in names] == names


def test_what_nothing_is_like_gets_no_suggestion():
    """A word that has nothing in common with any name is not taken for one."""
    assert nearest("zzz", ["out", "steps", "part.max-yaw"]) is None
