"""What is offered to who types a command: the text of `--help`, and completion at the cursor.

The text shows a command's arguments in groups, the most used first. bash asks for completion by
`harmoview --complete`, once it was told `complete -o default -C "harmoview --complete" harmoview`;
the words and the cursor are in its variables COMP_LINE and COMP_POINT. Where nothing is offered, it
completes the names of files.
"""

from __future__ import annotations

import importlib
import inspect
import shlex
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from jobs.arguments import Argument, arguments

WIDTH = 100
"""Columns of the text, at most; in a pipe 80."""
INDENT = 26
"""Columns before the words about an option."""
EVERYWHERE = {
    "--settings FILE": "Take options from a TOML file, by their long names, or from the folder of "
    "a run or a training; the command line wins.",
    "--print-settings": "Print such a file for what is given, and do nothing else.",
    "--log-level LEVEL": "Which notes of libraries are shown: debug, info, warning or error. "
    "(default: warning)",
    "-h, --help": "Show this, and do nothing else.",
}
"""The options that every command takes."""


def help_text(
    prog: str, settings: type, known: Mapping[str, Argument], first: Sequence[str]
) -> str:
    """The text of `harmoview PROG --help`; `first` names the most used options."""
    columns = min(shutil.get_terminal_size().columns, WIDTH)
    positional = [each for each in known.values() if each.positional]
    required = [each for each in known.values() if each.required and not each.positional]
    top = {each.name: each for each in (*required, *(known[name] for name in first))}
    usage = ["usage: harmoview", prog, *(each.form for each in positional)]
    usage += [f"--{each.name} {each.form}" for each in required]
    rest = [each for each in known.values() if not each.positional and each.name not in top]
    groups = {
        "": positional,
        "most used" if rest else "options": list(top.values()),
        **{
            _heading(owner, settings): [e for e in rest if e.of is owner] for owner in _owners(rest)
        },
    }
    parts = [
        " ".join(usage) + " [OPTIONS]",
        _filled(inspect.cleandoc(settings.__doc__ or ""), columns),
    ]
    for heading, members in groups.items():
        if members:
            rows = [_row(_name(each), _words(each), columns) for each in members]
            parts.append("\n".join([f"{heading}:"] * bool(heading) + rows))
    rows = [_row(form, words, columns) for form, words in EVERYWHERE.items()]
    parts.append("\n".join(["every command:", *rows]))
    return "\n\n".join(parts)


def _owners(members: Sequence[Argument]) -> list[type]:
    return list(dict.fromkeys(each.of for each in members))


def _heading(owner: type, settings: type) -> str:
    if owner is settings:
        return "more"
    first = inspect.cleandoc(owner.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
    return first.partition(". ")[0].rstrip(".")


def _name(argument: Argument) -> str:
    return " ".join([argument.shown, *([] if argument.positional else [argument.form])]).rstrip()


def _words(argument: Argument) -> str:
    if argument.required:
        return f"{argument.help} (required)"
    if argument.default in (None, (), "") or argument.switch:
        return argument.help
    value = argument.default
    values = value if isinstance(value, (list, tuple)) else [value]
    return f"{argument.help} (default: {' '.join(shlex.quote(str(each)) for each in values)})"


def _row(name: str, words: str, columns: int) -> str:
    lines = textwrap.wrap(words, columns - INDENT, break_long_words=False, break_on_hyphens=False)
    if len(name) + 4 > INDENT:
        lines = ["", *lines]
    first, *others = lines or [""]
    head = f"  {name:<{INDENT - 2}}{first}".rstrip()
    return "\n".join([head, *(" " * INDENT + line for line in others)])


def _filled(text: str, columns: int) -> str:
    """Paragraphs, each filled anew."""
    return "\n\n".join(
        textwrap.fill(" ".join(part.split()), columns) for part in text.split("\n\n")
    )


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
        everywhere = (form.partition("--")[2].split()[0] for form in EVERYWHERE)
        return sorted(f"--{name}" for name in (*names, *everywhere))
    last = words[-1].removeprefix("--") if words and words[-1].startswith("--") else ""
    if last in known and not known[last].switch:
        return known[last].choices
    positional = [argument for argument in known.values() if argument.positional]
    return positional[0].choices if positional and not words else []
