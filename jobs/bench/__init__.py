"""`harmoview bench`: HarmoView-Bench, from a suite of cases to tables and a human study."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jobs.cli import choose

ACTIONS = {
    "gsb": "the blind human study: make packages for raters, import answers, statistics",
    "paper": "the paper's Tables 1 and 2, their Total recomputed from their columns",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one action; 2 where there is no such action."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return choose("bench", ACTIONS, "jobs.bench", arguments)
