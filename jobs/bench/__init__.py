"""`harmoview bench`: HarmoView-Bench, from a suite of cases to tables."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jobs.cli import choose

ACTIONS = {
    "make": "a suite: of virtual people, of a run's people, or a frame for one's own",
    "check": "everything that is wrong with a suite, by name",
    "generate": "the videos of a suite, by a model or by a built-in method",
    "add": "videos of any other model into a run",
    "score": "measure the videos of a run, or bring in scores measured elsewhere",
    "table": "methods side by side: means, intervals, Totals, ranks",
    "compare": "one method less another, paired by case and seed",
    "report": "a page with every case: videos side by side, references, scores, yaw",
    "gsb": "a blind human study: packages for raters, their answers, what the votes say",
    "paper": "the paper's Tables 1 and 2, their Total recomputed from their columns",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one action; 2 where there is no such action."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return choose("bench", ACTIONS, "jobs.bench", arguments)
