"""`harmoview bench gsb import`: raters' answers into a study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from datapipe.files import Folder
from harmoview.bench.gsb.answers import import_answers
from jobs.cli import command


@dataclass(frozen=True)
class ImportSettings:
    """Check files of answers and keep them in the study; all of them or none.

    Refused are answers to other packages, unknown items, two votes on one, a package that was
    answered already, and a rater who answered packages of two rounds.
    """

    study: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="STUDY")]
    """The study's folder."""
    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILE.json")]
    """What raters sent back."""


def execute(settings: ImportSettings) -> None:
    """Check and keep."""
    for answers in import_answers(Folder(settings.study), settings.files):
        print(f"{answers.package}, {answers.rater}: {len(answers.answers)} votes")


main = command(__name__, ImportSettings, execute)
