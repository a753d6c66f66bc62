"""`harmoview bench gsb`: good, same or bad, judged blind by people."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.cli import choose

ACTIONS = {
    "make": "blind packages of videos for raters, which open from disk",
    "import": "raters' answers, checked, into the study",
    "stats": "majority, win rates, intervals, tests, agreement, strengths",
}


def main(argv: Sequence[str]) -> int:
    """Run one action; 2 where there is no such action."""
    return choose("bench gsb", ACTIONS, "jobs.bench.gsb", list(argv))
