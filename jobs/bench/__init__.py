"""`harmoview bench`: HarmoView-Bench, from a suite of cases to tables and a human study."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

ACTIONS = {
    "gsb": "the blind human study: make packages for raters, import answers, statistics",
    "paper": "the paper's Tables 1 and 2, their Total recomputed from their columns",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one action; 2 where there is no such action."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return choose("bench", ACTIONS, "jobs.bench", arguments)


def choose(prog: str, actions: dict[str, str], package: str, arguments: list[str]) -> int:
    """Hand over to the module of the action that is named first, or list the actions."""
    import difflib

    if not arguments or arguments[0] in ("-h", "--help"):
        print(listing(prog, actions))
        return 0
    name, *rest = arguments
    if name not in actions:
        near = difflib.get_close_matches(name, actions, 1)
        hint = f"did you mean {near[0]}?" if near else f"see harmoview {prog} --help"
        print(f"harmoview {prog}: there is no action {name!r}; {hint}", file=sys.stderr)
        return 2
    return int(importlib.import_module(f"{package}.{name}").main(rest))


def listing(prog: str, actions: dict[str, str]) -> str:
    """What `--help` prints."""
    width = max(map(len, actions))
    lines = [f"  {name:<{width}}  {does}" for name, does in actions.items()]
    ending = f"harmoview {prog} ACTION --help explains each."
    return "\n".join([f"usage: harmoview {prog} ACTION …", "", *lines, "", ending])
