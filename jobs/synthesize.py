"""`harmoview synthesize`: the main job, from a video corpus to seven-view WebDataset shards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from datapipe.line.drive import Recorder, Todo, drive
from datapipe.run.info import open_run
from datapipe.run.ledger import Ledger
from datapipe.run.lock import locked
from jobs.cli import command
from jobs.console.progress import counted, progress
from jobs.options.line import FLAT, ClusterSettings, LineSettings, build, run_folder, start
from jobs.pack import PackSettings
from jobs.pack import execute as pack
from jobs.stats import StatsSettings
from jobs.stats import execute as stats


@dataclass(frozen=True)
class SynthesizeSettings:
    """Cut references from a video corpus, synthesise their views, score them, write shards.

    Run it again on the same --out to continue a run that was stopped.
    """

    corpus: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="CORPUS")]
    """A folder of videos, tars of videos (path, folder or brace pattern), or a .parquet, .jsonl
    or .csv manifest; local or on an object store (s3://, gs://)."""
    out: str
    """The run folder."""
    line: Annotated[LineSettings, FLAT] = field(default_factory=LineSettings)
    cluster: Annotated[ClusterSettings, FLAT] = field(default_factory=ClusterSettings)
    limit: int | None = None
    """Only the first so many videos of the corpus."""
    retry_errors: bool = False
    """Do the samples again that ended in an error before."""
    rules: str | None = None
    """Rules file for the shards; the default rules come with the package."""
    quiet: bool = False
    """Show no progress."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"--limit must be at least 1, not {self.limit}")


def execute(settings: SynthesizeSettings) -> None:
    """Run the line over what is left to do, then pack and show the statistics."""
    run, corpus = run_folder(settings.out, settings.corpus)
    with locked(run):
        stages, wanted = build(settings.line, corpus, run)
        info = open_run(run, wanted)
        ledger = Ledger(run)
        ledger.recover(info.scoring.generation)
        if settings.retry_errors:
            ledger.forget_errors()
        todo = Todo(corpus, run.url, ledger.segments, settings.limit)
        recorder = Recorder(ledger, info.scoring.labels, info.scoring.generation)
        with (
            progress("synthesize", quiet=settings.quiet) as show,
            counted(todo.left, quiet=settings.quiet) as total,
        ):
            line = start(settings.cluster, stages, run.url)
            drive(line, todo, recorder, lambda counts: show(counts, total()))
    pack(PackSettings(settings.out, rules=settings.rules, quiet=settings.quiet))
    if not settings.quiet:
        stats(StatsSettings(settings.out))
        if (share := line.gpu_share()) is not None:
            print(f"GPUs were at work in {share:.0%} of the time that workers held them.")


main = command(__name__, SynthesizeSettings, execute)
