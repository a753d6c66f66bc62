"""Many videos by one model: in this process, or on Ray, where each process has a GPU."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datapipe.errors import UserError, check_range
from datapipe.files import Folder
from jobs.console.output import progress, steps
from jobs.options.crew import Crew, VideoMaker, VideoModel, make_all
from training.options import stage

if TYPE_CHECKING:
    from harmoview.orders import Order


@dataclass(frozen=True)
class Fleet:
    """In how many processes videos are made, and where."""

    workers: int = 1
    """Processes; several run on Ray, each with a GPU of its own, or on CPUs with --device cpu."""
    context_parallel: int = 1
    """Of the workers, those that make each video together, which is done sooner: the passes of
    guidance first, then the tokens of each. The default of --workers is then as many."""
    address: str | None = None
    """Ray cluster for several workers; the default is a local one."""

    def __post_init__(self) -> None:
        """Raises ValueError for options that cannot be, or not together."""
        check_range(self, "workers", "context_parallel", least=1)
        if self.workers > 1 and self.workers % self.context_parallel:
            raise ValueError(
                f"--context-parallel {self.context_parallel} does not divide {self.workers} workers"
            )
        if self.address is not None and self.processes == 1:
            raise ValueError("--address is for several --workers")

    @property
    def processes(self) -> int:
        """How many there are in all."""
        return max(self.workers, self.context_parallel)


def make_videos(
    model: VideoModel,
    orders: Sequence[Order],
    out: str,
    fleet: Fleet,
    *,
    again: bool = False,
    quiet: bool = False,
) -> int:
    """Make the orders that are missing in a folder, all of them with `again`; how many.

    A video is there when its mp4 is, which is put whole. Raises UserError.
    """
    folder = Folder(out)
    there = set() if again else {name[: -len(".mp4")] for name in folder.names("*.mp4")}
    todo = [order for order in orders if order.name not in there]
    if not todo:
        return 0
    if fleet.processes == 1:
        _here(model, todo, folder, quiet=quiet)
        return len(todo)
    outcomes: Counter[str] = Counter()
    with progress("generate", quiet=quiet) as show:

        def told() -> None:
            outcomes["made"] += 1
            show(outcomes, len(todo))

        _on_ray(model, todo, folder, fleet, told, quiet=quiet)
    return len(todo)


def _here(
    model: VideoModel,
    todo: Sequence[Order],
    folder: Folder,
    *,
    quiet: bool,
) -> None:
    from harmoview.generate import make, notes

    with steps("generate", quiet=quiet) as show:
        stage("loading the model")
        generator = model.load()
        for line in notes(generator):
            print(line, file=sys.stderr)
        for order in todo:
            generator.check(order)  # of all, before the first takes its minutes
        stage("denoising")
        for number, order in enumerate(todo):

            def told(done: int, each: int, name: str = order.name, number: int = number) -> None:
                show(number * each + done, len(todo) * each, name)

            make(generator, order, folder, told)


def _on_ray(
    model: VideoModel,
    todo: Sequence[Order],
    folder: Folder,
    fleet: Fleet,
    told: Callable[[], None],
    *,
    quiet: bool,
) -> None:
    """Each crew of actors writes its own videos; the driver never sees a frame."""
    import ray

    from datapipe.line.cluster import connect, gpus_there

    where = connect(fleet.address, log_to_driver=not quiet)
    gpus, processes, size = 0, fleet.processes, fleet.context_parallel
    if model.sampling.device != "cpu":
        gpus = 1
        if (there := gpus_there(processes, where)) < processes:
            raise UserError(
                f"{processes} processes take a GPU each, the cluster has {there}; give fewer "
                "--workers or a lower --context-parallel, or --device cpu"
            )
    cpus = min(1.0, int(100 * ray.cluster_resources().get("CPU", 1) / processes) / 100)
    actor = ray.remote(num_gpus=gpus, num_cpus=cpus)(VideoMaker)
    crews = min(processes // size, len(todo))
    every = ray.put(todo)
    make_all(
        todo, crews, lambda: Crew([actor.remote(model, folder) for _ in range(size)], every), told
    )
