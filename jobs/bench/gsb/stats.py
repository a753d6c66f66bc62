"""`harmoview bench gsb stats`: what the raters' votes say."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from jobs.cli import command


@dataclass(frozen=True)
class StatsSettings:
    """Majority, shares, agreement of votes given as JSON.

    The file holds one list an item, with one vote a rater: [["G", "S", "G"], …]; null is no vote.
    """

    votes: Path
    """The JSON file."""


def execute(settings: StatsSettings) -> None:
    """Read, compute, print."""
    from datapipe.errors import UserError
    from harmoview.bench.gsb.votes import votes_summary

    try:
        rows = json.loads(settings.votes.read_bytes())
        found = votes_summary(rows)
    except (OSError, ValueError) as wrong:
        raise UserError(f"--votes {settings.votes}: {wrong}") from wrong
    print(json.dumps(found, indent=1))


main = command(__name__, StatsSettings, execute)
