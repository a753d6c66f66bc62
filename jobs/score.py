"""`harmoview score`: the views of a run measured again, with the same or other scorers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from datapipe.claim import locked
from datapipe.files import Folder
from datapipe.line.rescore import begin_scoring, rescore
from datapipe.run.info import load_info
from datapipe.run.store import CandidateStore
from jobs.cli import command
from jobs.console.output import plain, progress
from jobs.options.engine import FaceSettings
from jobs.options.line import (
    FLAT,
    ClusterSettings,
    ScorerSettings,
    aesthetic,
    build_score,
    scoring_of,
    start,
)


@dataclass(frozen=True)
class ScoreSettings:
    """Measure the stored views of a run again; nothing is synthesised.

    The new scores take the place of the old ones when every candidate has them. Candidates that
    cannot be read become errors of the run; more than a fifth of them stop the command. A command
    that was stopped continues when it is run again.
    """

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """The run folder."""
    faces: Annotated[FaceSettings, FLAT] = field(default_factory=FaceSettings)
    score: Annotated[ScorerSettings, FLAT] = field(default_factory=ScorerSettings)
    cluster: Annotated[ClusterSettings, FLAT] = field(default_factory=ClusterSettings)
    quiet: bool = False
    """Show no progress."""


def execute(settings: ScoreSettings) -> None:
    """Score into a new generation, then switch to it."""
    run = Folder(settings.run)
    load_info(run)  # a folder that is no run gets no lock file
    with locked(run):
        found = load_info(run)
        store = CandidateStore(run, found.settings_hash)
        stage = build_score(settings.faces, settings.score, store)
        info = begin_scoring(run, found, scoring_of(stage))
        if not settings.quiet:
            print(aesthetic(settings.score)[1])
        with progress("score", quiet=settings.quiet) as show:
            line = start(settings.cluster, [stage], run.url)
            done = rescore(run, info, line, lambda counts: show(counts, None))
    if not settings.quiet:
        print(
            f"{done.scored:,} candidates scored; `harmoview pack {settings.run}` applies the rules"
        )
        if done.lost:
            print(
                f"{len(done.lost):,} could not be scored and are errors of the run now, the first "
                f"is {plain(done.lost[0])}: `harmoview show {settings.run} KEY` says why; the same "
                "`harmoview synthesize` with --retry-errors does them again"
            )


main = command(__name__, ScoreSettings, execute, first=("faces", "aesthetic", "device", "workers"))
