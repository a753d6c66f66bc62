"""`harmoview bench score`: measure the videos of a run, or bring in scores measured elsewhere."""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from datapipe.claim import locked
from datapipe.errors import UserError, check_range
from datapipe.faces import FACES
from harmoview.bench.add import import_scores
from harmoview.bench.columns import METRICS
from harmoview.bench.opens2v.scorers import published
from harmoview.bench.run import BenchRun, open_bench
from harmoview.bench.score import outdated, score
from harmoview.bench.scorers import Scorer, embedded
from jobs.cli import command
from jobs.console.bench import print_listed
from jobs.console.output import progress


@dataclass(frozen=True)
class BenchScoreSettings:
    """Measure every video of a run that was not measured yet, on all cores.

    The project's own metrics (hv) need nothing but the embedded models. OpenS2V-Eval's (opens2v)
    need weights that --weights names, but for opens2v_amp; without them they stay blank. Run again
    after any interruption: it goes on.
    """

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """The benchmark run."""
    metrics: tuple[str, ...] = ("hv", "opens2v")
    """hv, opens2v, or metrics by name."""
    import_: Annotated[
        tuple[str, ...], tyro.conf.arg(name="import", metavar="METHOD FILE.json …")
    ] = ()
    """Instead of measuring: a method, and result files of OpenS2V-Eval's own scripts for it."""
    weights: Path | None = None
    """TOML file with path and hash of the weights of opens2v metrics; docs/bench.md shows one."""
    faces: FACES = "light"
    """Which face models look."""
    faces_folder: Path | None = None
    """buffalo_l's model pack; the default is ~/.insightface/models/buffalo_l."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where buffalo_l and the opens2v networks run."""
    suite: str | None = None
    """The suite, where it has moved."""
    workers: int | None = None
    """Processes; the default is one per CPU."""
    retry_failed: bool = False
    """Measure again what failed."""
    quiet: bool = False
    """Show no progress."""

    def __post_init__(self) -> None:
        """Raises ValueError for options that cannot be, or not together."""
        check_range(self, "workers", least=1)
        if len(self.import_) == 1 or (self.import_[:1] and self.import_[0].endswith(".json")):
            raise ValueError("--import takes a method, and then its result files")
        known = {"hv", "opens2v", *METRICS}
        if unknown := [name for name in self.metrics if name not in known]:
            raise ValueError(f"--metrics: there is no {unknown[0]!r}; there are hv, opens2v and "
                             f"{', '.join(METRICS)}")  # fmt: skip


def execute(settings: BenchScoreSettings) -> None:
    """Measure what is missing, or import. Raises UserError."""
    run = open_bench(settings.run, settings.suite)
    with locked(run.folder):
        if settings.import_:
            _import(run, *settings.import_)
        else:
            _measure(settings, run)


def _import(run: BenchRun, method: str, *files: str) -> None:
    done = import_scores(run, method, [Path(file) for file in files])
    print_listed("videos that belong to no case", done.unknown)
    print_listed("values that are no numbers", done.unusable)
    for column, count in done.counts.items():
        print(f"{column}: {count} values of {method}")
    if not any(done.counts.values()):
        some = ", ".join(case.id for case in run.suite.cases[:3])
        raise UserError(
            f"--import: no value of {method} was brought in: the files must name videos by the "
            f"suite's cases, {some}, …"
        )
    if method not in {key.method for key in run.videos()}:
        print(f"{method} has no videos in this run: tables show these scores alone")


def _measure(settings: BenchScoreSettings, run: BenchRun) -> None:
    scorers = chosen(settings)
    print_listed("files that belong to no case", run.strangers())
    for method, cases in run.missing().items():
        print_listed(f"cases without a video of {method}", cases)
    if not run.videos():
        raise UserError(f"{settings.run} has no videos: `bench generate` or `bench add` them")
    tasks = list(outdated(run, scorers, retry_failed=settings.retry_failed))
    outcomes: Counter[str] = Counter()
    with progress("score", quiet=settings.quiet) as show:

        def told(_: object, status: str) -> None:
            outcomes[status] += 1
            show(outcomes, len(tasks))

        score(run, tasks, settings.workers or len(os.sched_getaffinity(0)), told)
    for scorer in scorers:
        if why := scorer.missing():
            print(f"{scorer.name} stays blank: {why}", file=sys.stderr)
    print(f"{settings.run}: {len(tasks)} measurements, {outcomes['failed']} failed")


def chosen(settings: BenchScoreSettings) -> list[Scorer]:
    """The scorers of the metrics asked for. Raises UserError where weights are not as told."""
    every = [
        *embedded(settings.faces, settings.device, settings.faces_folder),
        *published(settings.weights, settings.device),
    ]

    def wanted(scorer: Scorer) -> bool:
        groups = {metric.split("_")[0] for metric in scorer.metrics}
        return bool(groups & set(settings.metrics) or set(scorer.metrics) & set(settings.metrics))

    return [scorer for scorer in every if wanted(scorer)]


main = command(__name__, BenchScoreSettings, execute)
