"""Several training processes on Ray, one a GPU, for both trainers."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datapipe.errors import FinalError, UserError, check_range
from datapipe.line.cluster import LOCAL, connect, gpus_there

STOP_FILE, FINAL_FILE = "stop", "final-error"
"""In a run's folder, for its workers on Ray: they are to stop; why trying again is of no use."""


@dataclass(frozen=True)
class Launch:
    """In how many processes a training runs, and where."""

    workers: int = 1
    """Processes; several run on Ray, each with a GPU of its own, which the cluster's autoscaler is
    asked for. They share the CPUs with --device cpu, or where no GPU is there or coming."""
    address: str | None = None
    """Ray cluster for several workers; the default is a local one."""
    max_failures: int = 3
    """Times that a run on Ray goes on from its latest checkpoint after losing a worker."""

    def __post_init__(self) -> None:
        """Raises ValueError for options that cannot be, or not together."""
        check_range(self, "workers", least=1)
        check_range(self, "max_failures", least=0)
        if self.address is not None and self.workers == 1:
            raise ValueError("--address is for several --workers")


def on_ray(
    launch: Launch,
    work: Callable[[Callable[[], bool]], None],
    out: Path,
    device: str | None,
    *,
    quiet: bool,
) -> int:
    """Run `work` in every worker, in this process's folder, with torch.distributed set up and the
    worker's GPU current; it is given what says whether the command was told to stop. On CPUs they
    share those that there are.

    A worker that is lost takes the others along, and all are started again: `work` goes on from
    its latest checkpoint. Ray's own notes go to out/ray. Returns the exit status of a command that
    was told to stop. Raises the workers' UserError, and one where the cluster has GPUs, or should
    have, but too few.
    """
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import WorkerGroupError

    out = out.resolve()
    for left in (STOP_FILE, FINAL_FILE):
        (out / left).unlink(missing_ok=True)
    # before the handler of SIGTERM is set: Ray replaces it
    where = connect(launch.address, log_to_driver=not quiet)
    gpus = on_gpus(launch, device, where)
    cpus = min(1.0, int(100 * ray.cluster_resources().get("CPU", 1) / launch.workers) / 100)
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"work": work, "folder": Path.cwd(), "out": out},
        scaling_config=ScalingConfig(
            num_workers=launch.workers,
            use_gpu=gpus,
            # Ray Train would wait for ever for CPUs that are not there
            resources_per_worker=None if gpus else {"CPU": cpus},
        ),
        run_config=RunConfig(
            name="ray",
            storage_path=str(out),
            failure_config=FailureConfig(max_failures=launch.max_failures),
        ),
    )
    try:
        with told_to_stop((out / STOP_FILE).touch) as stop:
            _in_a_thread(trainer.fit)
    except WorkerGroupError as failed:
        for failure in failed.worker_failures.values():
            cause = getattr(failure, "_base_exc", failure)  # Ray wraps what a worker raised
            if isinstance(cause, UserError):
                raise cause from failed
        raise
    (out / STOP_FILE).unlink(missing_ok=True)
    return stop.status


class Stop:
    """Whether a training was told to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def is_set(self) -> bool:
        return self.signal is not None

    @property
    def status(self) -> int:
        """The exit status of the stopped command, as shells count."""
        return 128 + (self.signal or signal.SIGTERM)


@contextmanager
def told_to_stop(also: Callable[[], object] = lambda: None) -> Iterator[Stop]:
    """Within the block SIGTERM and Ctrl-C only note that the training is to stop, and call `also`.

    A second Ctrl-C leaves at once.
    """
    stop = Stop()

    def told(number: int, _: object) -> None:
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            print(
                "stopping after this step, with a checkpoint; Ctrl-C again leaves at once",
                file=sys.stderr,
            )
        stop.signal = number
        also()

    before = {each: signal.signal(each, told) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _in_a_thread(fit: Callable[[], object]) -> None:
    """Wait for Ray Train, which in the main thread would take Ctrl-C for itself, for good."""
    ended: Future[object] = Future()

    def run() -> None:
        try:
            ended.set_result(fit())
        except BaseException as wrong:  # noqa: BLE001  # handed over
            ended.set_exception(wrong)

    threading.Thread(target=run, daemon=True).start()  # a second Ctrl-C does not wait for it
    ended.result()


def on_gpus(launch: Launch, device: str | None, where: str) -> bool:
    """Whether each worker gets a GPU of the cluster at `where`; waits for those on their way.

    Raises UserError where there are too few for a run that is to have them.
    """
    if device == "cpu":
        return False
    there = gpus_there(launch.workers, where)
    if there >= launch.workers:
        return True
    if there or device is not None:
        raise UserError(
            f"--workers {launch.workers}: each takes a GPU, the cluster has {there}, and no more "
            "are on their way; give fewer workers, or --device cpu"
        )
    if where != LOCAL:
        print("no GPU in the cluster and none on its way: training on CPUs", file=sys.stderr)
    return False


def _worker(config: dict[str, Any]) -> None:
    from training.device import silence_libraries

    silence_libraries()
    enter(config["folder"])
    final: Path = config["out"] / FINAL_FILE
    if final.is_file():  # Ray tries again whatever was raised
        raise FinalError(final.read_text())
    try:
        config["work"]((config["out"] / STOP_FILE).exists)
    except FinalError as wrong:
        final.write_text(str(wrong))
        raise


def enter(folder: Path) -> None:
    """Go from Ray's folder into the command's, from which relative paths are meant.

    A node that lacks that one can only have been given absolute ones.
    """
    if folder.is_dir():
        os.chdir(folder)
