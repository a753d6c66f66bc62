"""`harmoview bench generate`: the videos of a suite, by a model or by a built-in method."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from datapipe.claim import locked
from datapipe.errors import check_range
from harmoview.bench.generate import check_same, missing_videos, order, render_videos
from harmoview.bench.run import BenchRun, check_method, open_bench
from harmoview.bench.virtual.methods import METHODS
from harmoview.orders import Sampling, made_by
from jobs.cli import command
from jobs.console.output import progress
from jobs.options.crew import VideoModel
from jobs.options.fleet import Fleet, make_videos


@dataclass(frozen=True)
class BenchGenerateSettings:
    """Make the videos of every case, as many as are missing.

    With --base and --checkpoint a HarmoView model makes them. Without, the built-in method of that
    name renders the people of a virtual suite, each with one known defect: truth, frontal,
    cardboard, blend25, blend50, other, swap, jitter, static. Run again, it goes on.
    """

    suite: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SUITE")]
    """The suite."""
    run: str
    """The benchmark run; begun here if need be."""
    method: tuple[str, ...]
    """The name in files and tables; of built-in methods several, or `all`."""
    base: str | None = None
    """A Wan pipeline in diffusers' layout: a folder or a hub name."""
    checkpoint: Path | None = None
    """What `harmoview train` exported."""
    views: tuple[int, ...] | None = None
    """Yaws of the references that are shown, instead of those the cases say: 0 shows the frontal
    one only. Give it a method name of its own."""
    seeds: tuple[int, ...] = (0,)
    """A video of every case for each of these."""
    sampling: Annotated[Sampling, tyro.conf.arg(name="")] = field(default_factory=Sampling)
    workers: int | None = None
    """Processes: of built-in methods one per CPU by default; of a model one, and several run on Ray
    with a GPU each."""
    address: str | None = None
    """Ray cluster for several workers of a model; the default is a local one."""
    quiet: bool = False
    """Show no progress."""

    def __post_init__(self) -> None:
        """Raises ValueError for options that cannot be, or not together."""
        if (self.base is None) != (self.checkpoint is None):
            raise ValueError("--base and --checkpoint go together")
        if self.base is not None and len(self.method) > 1:
            raise ValueError("a model is one --method")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"--seeds must differ and not be negative, not {self.seeds}")
        check_range(self, "workers", least=1)
        if self.base is None:
            known = {"all", *METHODS}
            if wrong := [name for name in self.method if name not in known]:
                raise ValueError(
                    f"--method {wrong[0]}: a model needs --base and --checkpoint; built-in are "
                    f"{', '.join(METHODS)} and all"
                )
            if self.views is not None:
                raise ValueError("--views is for a model: built-in methods know the people")


def execute(settings: BenchGenerateSettings) -> None:
    """Make what is missing, one method after the other."""
    run = open_bench(settings.run, settings.suite)
    with locked(run.folder):
        if settings.base is not None and settings.checkpoint is not None:
            model = VideoModel(settings.base, settings.checkpoint, settings.sampling)
            _by_model(settings, run, settings.method[0], model)
            return
        _built_in(settings, run, METHODS if "all" in settings.method else settings.method)


def _by_model(
    settings: BenchGenerateSettings, run: BenchRun, method: str, model: VideoModel
) -> None:
    check_method(method)
    asked = made_by(model.base, model.checkpoint, model.sampling)
    check_same(run, method, asked, settings.views)
    todo = missing_videos(run, method, settings.seeds)
    orders = [order(run, key, settings.views) for key in todo]
    fleet = Fleet(settings.workers or 1, address=settings.address)
    out = run.folder.folder(f"videos/{method}").url
    made = make_videos(model, orders, out, fleet, quiet=settings.quiet)
    print(f"{method}: {made} videos made")


def _built_in(settings: BenchGenerateSettings, run: BenchRun, methods: Sequence[str]) -> None:
    wanted = dict.fromkeys(methods)
    todo = [key for name in wanted for key in missing_videos(run, name, settings.seeds)]
    workers = settings.workers or len(os.sched_getaffinity(0))
    outcomes: Counter[str] = Counter()
    with progress("generate", quiet=settings.quiet or not todo) as show:
        for _ in render_videos(run, todo, workers):
            outcomes["made"] += 1
            show(outcomes, len(todo))
    print(f"{', '.join(wanted)}: {len(todo)} videos made")


main = command(__name__, BenchGenerateSettings, execute)
