"""`harmoview plan`: what a corpus will give and cost, from a pilot of some of its videos."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import tyro

from datapipe.claim import locked
from datapipe.corpus import corpus as listed
from datapipe.errors import UserError, check_range
from datapipe.files import Folder
from datapipe.line.drive import drive, recorder
from datapipe.run.info import RunInfo, open_run
from datapipe.stage import Stage
from dataset.plan.pilot import (
    Pilot,
    PilotRemaining,
    TimedStage,
    draw,
    load_pilot,
    measure,
    save_pilot,
)
from dataset.plan.plan import Cluster, plan
from dataset.run import run_rules
from jobs.cli import command
from jobs.console.output import progress
from jobs.console.plan import print_plan
from jobs.options.line import FLAT, ClusterSettings, LineSettings, build, run_folder, start
from jobs.settings_file import options_of


@dataclass(frozen=True)
class PlannedCluster:
    """What the whole corpus would run on, and what that costs."""

    gpus: float | None = None
    """GPUs of the cluster, of the kind the pilot ran on."""
    cpus: float | None = None
    """CPUs of the cluster, of the kind the pilot ran on."""
    gpu_hour: float | None = None
    """Price of a GPU for an hour, in any currency."""
    cpu_hour: float | None = None
    """Price of a CPU for an hour; 0 where the GPU's price includes the CPUs."""
    gb_month: float | None = None
    """Price of a gigabyte of storage for a month."""

    def __post_init__(self) -> None:
        """Raises ValueError for options that cannot be, or not together."""
        check_range(self, "gpus", "cpus", above=0, under=math.inf)
        check_range(self, "gpu_hour", "cpu_hour", "gb_month", least=0, under=math.inf)
        if self.gpus is not None and self.cpus is None:
            raise ValueError("--gpus needs --cpus too: videos are always prepared on CPUs")

    def cluster(self) -> Cluster:
        """The same for `dataset.plan`."""
        return Cluster(self.gpus, self.cpus, self.gpu_hour, self.cpu_hour, self.gb_month)


@dataclass(frozen=True)
class PlanSettings:
    """Run the line over a few videos, drawn uniformly over the whole corpus, and estimate what all
    of them will give and cost, with intervals.

    --out is a run: `harmoview synthesize CORPUS --out PILOT`, with the same options, goes on with
    it. Run plan again on a finished pilot for other rules, prices or clusters; that runs nothing.
    """

    corpus: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="CORPUS")]
    """As for `harmoview synthesize`."""
    out: str
    """The run folder of the pilot."""
    samples: int = 64
    """Videos of the pilot; more make the intervals narrower."""
    planned: Annotated[PlannedCluster, FLAT] = field(default_factory=PlannedCluster)
    line: Annotated[LineSettings, FLAT] = field(default_factory=LineSettings)
    cluster: Annotated[ClusterSettings, FLAT] = field(default_factory=ClusterSettings)
    retry_errors: bool = False
    """Do the samples again that ended in an error before."""
    rules: str | None = None
    """Rules file to judge by; the default rules come with the package."""
    json: bool = False
    """Print JSON instead of tables; docs/plan.md describes it."""
    quiet: bool = False
    """Show no progress."""

    def __post_init__(self) -> None:
        """Raises ValueError for options that cannot be, or not together."""
        check_range(self, "samples", least=1)


def execute(settings: PlanSettings) -> None:
    """Draw, run what is left to do, judge, estimate, print."""
    run, corpus = run_folder(settings.out, settings.corpus)
    with locked(run):
        stages, wanted = build(settings.line, corpus, run, settings.rules)
        _check_gpus(settings.planned, wanted)
        info = open_run(run, replace(wanted, options=options_of(settings)))
        rules = run_rules(run, settings.rules)  # before what takes long
        pilot = _pilot(settings, run, corpus)
        _work(settings, run, info, pilot, stages)
        videos = measure(run, info, rules, pilot.keys)
    yaws = settings.line.views.yaws
    made = 0 in yaws and not settings.line.real_frontal
    found = plan(videos, pilot.videos, yaws, info.gpus, settings.planned.cluster(), made)
    if settings.json:
        print(json.dumps(found.as_dict(), indent=1))
    else:
        print_plan(found)


def _check_gpus(planned: PlannedCluster, info: RunInfo) -> None:
    """Raises UserError where the line needs GPUs and the planned cluster has none."""
    on_gpu = [stage for stage, held in info.gpus.items() if held]
    if on_gpu and planned.cpus is not None and planned.gpus is None:
        raise UserError(
            f"--cpus {planned.cpus:g} alone is no cluster for this line: {', '.join(on_gpu)} run "
            "on GPUs; give --gpus too"
        )


def _pilot(settings: PlanSettings, run: Folder, corpus: str) -> Pilot:
    """The pilot that was drawn before, or a new one from the listing."""
    seed = settings.line.views.seed
    pilot = load_pilot(run, settings.samples, seed)
    if pilot is None:
        with progress("list", quiet=settings.quiet) as show:
            pilot = draw(
                listed(corpus, settings.line.caption_field),
                settings.samples,
                seed,
                lambda videos: show(Counter(videos=videos), None),
            )
        save_pilot(run, pilot)
    return pilot


def _work(
    settings: PlanSettings, run: Folder, info: RunInfo, pilot: Pilot, stages: Sequence[Stage]
) -> None:
    """Run the line over what the ledger lacks of the pilot; start nothing where that is nothing."""
    into = recorder(run, info, retry_errors=settings.retry_errors)
    segments = into.ledger.segments
    remaining = PilotRemaining(info.corpus, run.url, segments, chosen=pilot.samples)
    left = sum(1 for _ in remaining.left())
    if not left:
        return
    with progress("pilot", quiet=settings.quiet) as show:
        line = start(settings.cluster, [TimedStage(stage, run) for stage in stages], run.url)
        drive(line, remaining, into, lambda counts: show(counts, left))


main = command(__name__, PlanSettings, execute, first=("samples", "cpus", "gpus"))
