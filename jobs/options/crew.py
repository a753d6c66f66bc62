"""Crews of actors on Ray: the processes of one make a video together."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datapipe.errors import UserError

if TYPE_CHECKING:
    from datapipe.files import Folder
    from harmoview.generate import Generator
    from harmoview.orders import Order, Sampling

RESTARTS = 3
"""Times that a crew of which a process was lost is replaced, of all crews of a command together."""
_SETTLED = 60.0
"""Seconds in which the others of a crew end, when one fails because it lost another."""


@dataclass(frozen=True)
class VideoModel:
    """What makes the videos, before it is loaded."""

    base: str
    checkpoint: Path
    sampling: Sampling

    def load(self) -> Generator:
        """Raises UserError."""
        from harmoview.generate import Generator

        return Generator(self.base, self.checkpoint, self.sampling)


class VideoMaker:
    """An actor: one pipeline, loaded when the first order comes."""

    def __init__(self, model: VideoModel, folder: Folder) -> None:
        self._model, self._folder = model, folder
        self._generator: Generator | None = None
        self._store: Any = None

    def meet(self) -> tuple[str, int]:
        """Open the place where the crew's processes find each other; its host and port."""
        import ray
        from torch.distributed import TCPStore  # type: ignore[attr-defined]  # torch hides it

        from training.parallel import PATIENCE

        host = ray.util.get_node_ip_address()
        self._store = TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=PATIENCE)
        return host, self._store.port

    def join(self, rank: int, size: int, host: str, port: int) -> None:
        """Set torch.distributed up with the others."""
        from torch import distributed
        from torch.distributed import TCPStore  # type: ignore[attr-defined]  # torch hides it

        from training.device import device_named, silence_libraries
        from training.parallel import PATIENCE

        silence_libraries()
        device = self._model.sampling.device
        cuda = device_named(None if device == "auto" else device).type == "cuda"
        # one may load from a slow disk what another has in memory
        store = self._store or TCPStore(host, port, is_master=False, timeout=PATIENCE)
        distributed.init_process_group(
            "nccl" if cuda else "gloo", store=store, rank=rank, world_size=size, timeout=PATIENCE
        )

    def check(self, orders: Sequence[Order]) -> None:
        """Check all orders before the first takes its minutes. Raises UserError."""
        from harmoview.generate import notes

        generator = self._loaded()
        for line in notes(generator):
            print(line, file=sys.stderr)
        for order in orders:
            generator.check(order)

    def make(self, order: Order) -> None:
        from harmoview.generate import make

        make(self._loaded(), order, self._folder)

    def _loaded(self) -> Generator:
        if self._generator is None:
            self._generator = self._model.load()
        return self._generator


class Crew:
    """Actors that make one video at a time together; mostly it is one actor."""

    def __init__(self, actors: Sequence[Any], orders: Any = None) -> None:
        """Takes `VideoMaker`s and all orders, put into Ray's store, which are checked first."""
        import ray

        self._actors = actors
        self._first: list[Any] = []
        if len(actors) > 1:
            meeting = ray.get(actors[0].meet.remote())
            self._first = [
                actor.join.remote(rank, len(actors), *meeting) for rank, actor in enumerate(actors)
            ]
        self._first += [] if orders is None else [actors[0].check.remote(orders)]
        self.tasks: list[Any] = []
        """What is still to be done of the order."""
        self.order: Order | None = None

    def begin(self, order: Order) -> None:
        """Begin an order's video."""
        self.order = order
        self.tasks = [*self._first, *(actor.make.remote(order) for actor in self._actors)]
        self._first = []

    def lost(self, task: Any) -> bool:
        """Note that a task has ended; whether by the loss of a process. Raises what else it did.

        Where one process of several is lost the others fail too, and may be heard of first.
        """
        import ray
        from ray.exceptions import RayActorError

        failure = _failure(task)
        self.tasks.remove(task)
        if failure is None or isinstance(failure, RayActorError):
            return failure is not None
        if isinstance(cause := getattr(failure, "cause", None), UserError):
            raise cause from failure
        if self.tasks:
            ended, _ = ray.wait(self.tasks, num_returns=len(self.tasks), timeout=_SETTLED)
            if any(isinstance(_failure(other), RayActorError) for other in ended):
                return True
        raise failure

    def end(self) -> None:
        """End the processes."""
        import ray

        for actor in self._actors:
            ray.kill(actor)


def _failure(task: Any) -> Exception | None:
    import ray
    from ray.exceptions import RayError

    try:
        ray.get(task)
    except RayError as failure:
        found: Exception = failure
        return found
    return None


def make_all(
    orders: Sequence[Order], crews: int, start: Callable[[], Crew], told: Callable[[], None]
) -> None:
    """Make videos by so many crews; `told` is called after each.

    A crew that loses a process is replaced, and its order begun again. Raises UserError where that
    happens too often, and what a process raises.
    """
    import ray

    left, losses = list(reversed(orders)), 0
    busy: list[Crew] = []
    try:
        for _ in range(crews):
            busy.append(start())
            busy[-1].begin(left.pop())
        while busy:
            (task,), _ = ray.wait([task for crew in busy for task in crew.tasks], num_returns=1)
            crew = next(crew for crew in busy if task in crew.tasks)
            again = crew.lost(task)
            if again:
                losses += 1
                _replace(busy, crew, start, losses)
            elif not crew.tasks:
                told()
                if left:
                    crew.begin(left.pop())
                else:
                    crew.end()
                    busy.remove(crew)
    finally:
        for crew in busy:
            crew.end()


def _replace(busy: list[Crew], crew: Crew, start: Callable[[], Crew], losses: int) -> None:
    """Put a crew that begins the same order in the place of one that lost a process."""
    assert crew.order is not None  # it was busy
    if losses > RESTARTS:
        raise UserError(
            f"processes were lost {losses} times; what was made is kept: run this again and it "
            "continues"
        )
    crew.end()
    busy[busy.index(crew)] = new = start()
    new.begin(crew.order)
