"""Completion on the command line: what may stand where the cursor is.

bash asks by `harmoview --complete`, once it was told `complete -o default -C "harmoview --complete"
harmoview`; the words and the cursor are in its variables COMP_LINE and COMP_POINT. Where nothing
is offered, it completes the names of files.
"""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Iterable, Sequence

from jobs.arguments import Argument, arguments

EVERYWHERE = ("help", "settings", "print-settings", "log-level")
"""Options of every command."""


def complete(
    commands: Iterable[str], levels: Sequence[str], line: str, point: str | None = None
) -> list[str]:
    """The words that may stand at place `point` of a command line, the end where it is None.

    They begin with what is typed there of the last word. `levels` are those of --log-level.
    """
    line = line if point is None else line[: int(point)]
    try:
        words = shlex.split(line)
    except ValueError:  # an open quotation mark: a text or a file is being typed
        return []
    start = words.pop() if line[-1:].strip() and words else ""
    offered = levels if words[-1:] == ["--log-level"] else _offered(commands, words[1:], start)
    return [word for word in offered if word.startswith(start)]


def _offered(commands: Iterable[str], words: list[str], start: str) -> list[str]:
    """What may follow some words, where the next begins with `start`."""
    module, choices = "jobs", list(commands)
    words = words[1:] if words[:1] == ["help"] else words
    while words:
        name, *words = words
        if name not in choices:
            return []
        module = f"{module}.{name.replace('-', '_')}"
        found = importlib.import_module(module)
        if not hasattr(found, "ACTIONS"):
            return _of_command(arguments(found.main.settings), words, start)
        choices = list(found.ACTIONS)
    return choices


def _of_command(known: dict[str, Argument], words: list[str], start: str) -> list[str]:
    """The values of the option before, or the options; what else is wanted, if it is a choice."""
    if start.startswith("-"):
        names = [name for name, argument in known.items() if not argument.positional]
        return sorted(f"--{name}" for name in (*names, *EVERYWHERE))
    last = words[-1].removeprefix("--") if words and words[-1].startswith("--") else ""
    if last in known and not known[last].switch:
        return known[last].choices
    positional = [argument for argument in known.values() if argument.positional]
    return positional[0].choices if positional and not words else []
