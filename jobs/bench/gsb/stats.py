"""`harmoview bench gsb stats`: what the raters' votes say."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jobs.cli import command


@dataclass(frozen=True)
class GsbStatsSettings:
    """Majority, win rates, tests, agreement, strengths: of a study, or of a plain matrix of votes.

    Raters who failed the checks by the plan's rule are listed, and everything is told with and
    without them. A matrix is a JSON file with one list an item and one vote a rater:
    [["G", "S", "G"], …]; null is no vote.
    """

    study: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="STUDY")] = ""
    """The study's folder, with imported answers."""
    votes: Path | None = None
    """The JSON file of a plain matrix, instead of a study; prints JSON."""
    json: bool = False
    """Print JSON instead of tables."""

    def __post_init__(self) -> None:
        """Raises ValueError for options that cannot be, or not together."""
        if bool(self.study) == (self.votes is not None):
            raise ValueError("give a study or --votes FILE.json")


def execute(settings: GsbStatsSettings) -> None:
    """Read, compute, print."""
    if settings.votes is not None:
        print(json.dumps(_of_matrix(settings.votes), indent=1))
        return
    from datapipe.files import Folder
    from harmoview.bench.gsb.study import study_results

    found = study_results(Folder(settings.study))
    if settings.json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return
    from jobs.console.bench import print_study

    print_study(found)


def _of_matrix(path: Path) -> dict[str, object]:
    from datapipe.errors import UserError
    from harmoview.bench.gsb.votes import votes_summary

    try:
        return votes_summary(json.loads(path.read_bytes()))
    except (OSError, ValueError) as wrong:
        raise UserError(f"--votes {path}: {wrong}") from wrong


main = command(__name__, GsbStatsSettings, execute)
