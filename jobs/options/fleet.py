"""Many videos by one model: in this process, or on Ray by actors that have a GPU each."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datapipe.errors import UserError, check_range
from datapipe.files import Folder
from jobs.console.output import progress

if TYPE_CHECKING:
    from harmoview.generate import Generator
    from harmoview.orders import Order, Sampling

RESTARTS = 3
"""Times that an actor is started again after its process ended."""


@dataclass(frozen=True)
class VideoModel:
    """What makes the videos, before it is loaded."""

    base: str
    checkpoint: Path
    sampling: Sampling

    def load(self, *, quiet: bool) -> Generator:
        """Raises UserError."""
        from harmoview.generate import Generator

        return Generator(self.base, self.checkpoint, self.sampling, quiet=quiet)


@dataclass(frozen=True)
class Fleet:
    """In how many processes videos are made, and where."""

    workers: int = 1
    """Processes; several run on Ray, each with a GPU of its own, or on CPUs with --device cpu."""
    address: str | None = None
    """Ray cluster for several workers; the default is a local one."""

    def __post_init__(self) -> None:
        """Raises ValueError for options that cannot be, or not together."""
        check_range(self, "workers", least=1)
        if self.address is not None and self.workers == 1:
            raise ValueError("--address is for several --workers")


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
    outcomes: Counter[str] = Counter()
    with progress("generate", quiet=quiet or len(todo) == 1) as show:

        def told() -> None:
            outcomes["made"] += 1
            show(outcomes, len(todo))

        if fleet.workers == 1:
            _here(model, todo, folder, told, quiet=quiet)
        else:
            _on_ray(model, todo, folder, fleet, told, quiet=quiet)
    return len(todo)


def _here(
    model: VideoModel,
    todo: Sequence[Order],
    folder: Folder,
    told: Callable[[], None],
    *,
    quiet: bool,
) -> None:
    from harmoview.generate import make, untrained

    generator = model.load(quiet=quiet)
    for line in untrained(generator):
        print(line, file=sys.stderr)
    for order in todo:
        make(generator, order, folder)
        told()


def _on_ray(
    model: VideoModel,
    todo: Sequence[Order],
    folder: Folder,
    fleet: Fleet,
    told: Callable[[], None],
    *,
    quiet: bool,
) -> None:
    """Each actor writes its own videos; the driver never sees a frame."""
    import ray
    from ray.exceptions import RayActorError, RayTaskError
    from ray.util import ActorPool

    from datapipe.line.cluster import connect, gpus_there

    where = connect(fleet.address, log_to_driver=not quiet)
    gpus = 0
    if model.sampling.device != "cpu":
        gpus = 1
        if (there := gpus_there(fleet.workers, where)) < fleet.workers:
            raise UserError(
                f"--workers {fleet.workers}: each takes a GPU, the cluster has {there}; give "
                "fewer, or --device cpu"
            )
    remote = ray.remote(num_gpus=gpus, num_cpus=1, max_restarts=RESTARTS, max_task_retries=RESTARTS)
    actors = [
        remote(_VideoMaker).remote(model, folder) for _ in range(min(fleet.workers, len(todo)))
    ]
    pool = ActorPool(actors)
    try:
        for _ in pool.map_unordered(lambda actor, order: actor.make.remote(order), todo):
            told()
    except RayTaskError as failed:
        if isinstance(failed.cause, UserError):
            raise failed.cause from failed
        raise
    except RayActorError as lost:
        raise UserError(
            f"a worker was lost {RESTARTS + 1} times ({lost}); what was made is kept: run this "
            "again and it continues"
        ) from lost
    finally:
        for actor in actors:
            ray.kill(actor)


class _VideoMaker:
    """An actor: one pipeline, loaded when the first order comes."""

    def __init__(self, model: VideoModel, folder: Folder) -> None:
        self._model, self._folder = model, folder
        self._generator: Any = None

    def make(self, order: Order) -> None:
        from harmoview.generate import make

        if self._generator is None:
            self._generator = self._model.load(quiet=True)
        if not self._folder.exists(f"{order.name}.mp4"):  # a retry may find its video there
            make(self._generator, order, self._folder)
