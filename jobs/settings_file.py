"""Settings files: the options of a command in TOML, or as a run or a training recorded them."""

from __future__ import annotations

import functools
import json
import tomllib
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from datapipe.claim import leaves
from datapipe.errors import UserError
from datapipe.files import Folder
from jobs.arguments import Argument, Given, arguments, unknown

RECORD = "run.json"
"""What a run folder and a training's folder say of themselves."""
OPTIONS = "options"
"""Where the options are in it."""


def read(path: str, known: Mapping[str, Argument]) -> Given:
    """The words that a file gives for a command's arguments, by names with - or _.

    `path` may also name a run folder or a training's, or their run.json. Raises ValueError.
    """
    options = _content(path)
    try:
        return words_of(options, known)
    except ValueError as wrong:
        raise ValueError(f"--settings {path}: {wrong}") from wrong


def words_of(options: Mapping[str, Any], known: Mapping[str, Argument]) -> Given:
    """The words that a command line would give for some options. Raises ValueError."""
    given: Given = {}
    for key, value in leaves(options).items():
        name = key.replace("_", "-")
        if name not in known:
            raise ValueError(unknown(name, known))
        given[name] = _words(value, known[name])
        known[name].value(given[name])
    return given


def _content(path: str) -> dict[str, Any]:
    where, name = Folder(path), RECORD
    if not where.exists(name):
        folder, slash, name = path.rpartition("/")
        where = Folder(folder + slash or ".")
    try:
        text = where.read(name).decode()
        if not name.endswith(".json"):
            return tomllib.loads(text)
        found = json.loads(text)
    except (OSError, UserError) as wrong:
        raise ValueError(f"--settings {path} cannot be read; give a TOML file") from wrong
    except ValueError as wrong:  # of either format, or no UTF-8
        raise ValueError(f"--settings {path}: {wrong}") from wrong
    options = found.get(OPTIONS) if isinstance(found, dict) else None
    if not isinstance(options, dict):
        raise ValueError(f"--settings {path} holds no options of a command")
    return options


def _words(value: object, argument: Argument) -> list[str]:
    """The words that would give the value on a command line; a table in a list becomes JSON.

    Raises ValueError for what no words would give.
    """
    if argument.switch and not isinstance(value, bool):
        raise ValueError(f"{argument.name} must be true or false, not {value!r}")
    values = value if isinstance(value, (list, tuple)) else [value]
    return [json.dumps(each) if isinstance(each, dict) else str(each) for each in values]


def written(prog: str, given: Mapping[str, Any], known: Mapping[str, Argument]) -> str:
    """A settings file of the values given; the other options stand in it as comments."""
    lines = [f"# harmoview {prog} --settings FILE reads this; the command line wins."]
    lines += [f"{name} = {_toml(value)}" for name, value in given.items()]
    lines += ["", "# What is left at its default:"]
    for name, argument in known.items():
        if name not in given:
            unset = argument.required or argument.default is None
            value = argument.form if unset else _toml(argument.default)
            lines += [f"# {name} = {value}  # {argument.help}"]
    return "\n".join(lines)


def options_of(settings: object) -> dict[str, Any]:
    """The options that are not at their defaults, as a record keeps them for `--settings`."""
    found: dict[str, Any] = {}
    for name, argument in arguments(type(settings)).items():
        value = functools.reduce(getattr, argument.field.split("."), settings)
        if value != argument.default and value is not None:
            found[name] = json.loads(json.dumps(value, default=str))
    return found


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (str, PurePath)):
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    assert isinstance(value, (list, tuple)), value
    return "[" + ", ".join(map(_toml, value)) + "]"
