"""`harmoview train`: the Progressive View Curriculum, on one device or on a Ray cluster."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.progress import Progress

from harmoview.encode.settings import EncodeSettings
from harmoview.train.settings import TrainSettings
from jobs import entry
from jobs.cluster import connect
from jobs.extras import need_train

STOPPED = 143
"""Exit status of a run that was told to stop by SIGTERM: 128 + 15, as shells count."""
STOP_FILE = "stop"


@dataclass(frozen=True)
class Settings:
    """Train HarmoView on packed or encoded shards, phase after phase.

    Packed shards are encoded first, into OUT/encoded, with the default sizes of the base. Run it
    again with --resume to continue a run that was stopped; it goes on as if it had not been. On
    SIGTERM it writes a checkpoint and ends with exit status 143.
    """

    shards: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SHARDS")]
    """The folder that `harmoview encode` or `harmoview pack` wrote."""
    train: tyro.conf.OmitArgPrefixes[TrainSettings]
    resume: bool = False
    """Continue the run in --out; the number of workers may be another one."""
    workers: int = 1
    """Processes, each with a GPU of its own if there are any; several run on Ray."""
    address: str | None = None
    """Ray cluster for several workers; the default is a local one."""
    max_failures: int = 3
    """Times that a run on Ray goes on from its latest checkpoint after losing a worker."""
    quiet: bool = False
    """Show no progress."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"--workers must be at least 1, not {self.workers}")
        if self.address is not None and self.workers == 1:
            raise ValueError("--address is for several --workers")


def execute(settings: Settings) -> int:
    """Encode if need be, claim the folder, train."""
    need_train("train")
    from datapipe.files import Folder
    from datapipe.run.lock import locked
    from harmoview.train.begin import begin
    from lora_engine.training.device import hush

    hush()
    settings.train.out.mkdir(parents=True, exist_ok=True)
    with locked(Folder(settings.train.out)):
        shards = encoded(settings)
        begin(settings.train, shards, settings.workers, settings.resume)
        run = _in_this_process if settings.workers == 1 else _on_ray
        done, of = run(settings, shards)
    if done < of:
        print(
            f"stopped after step {done} of {of}; its checkpoint is in {settings.train.out}: "
            "run the same command with --resume to go on",
            file=sys.stderr,
        )
        return STOPPED
    if not settings.quiet:
        print(f"the model is in {settings.train.out}/model, metrics in metrics.jsonl beside it")
    return 0


def encoded(settings: Settings) -> str:
    """The folder of encoded shards, made first where packed ones were given."""
    from datapipe.files import Folder
    from harmoview.encode.manifest import KIND, kind_of
    from jobs import encode

    source = Folder(settings.shards)
    if kind_of(source) == KIND:
        return settings.shards
    out = Folder(settings.train.out).folder("encoded").url
    how = EncodeSettings(base=settings.train.base, vit=settings.train.vit)
    here, quiet = settings.workers == 1, settings.quiet
    encode.execute(
        encode.Settings(settings.shards, out, how, here, address=settings.address, quiet=quiet)
    )
    return out


def _in_this_process(settings: Settings, shards: str) -> tuple[int, int]:
    from harmoview.train.begin import length
    from harmoview.train.train import train

    bar = Progress(console=Console(stderr=True), disable=settings.quiet)
    with _told_to_stop() as stop, bar:
        task = bar.add_task("train", total=length(settings.train))

        def show(done: int, total: int, record: dict[str, Any]) -> None:
            text = f"phase {record['phase']}, loss {record['loss']:.4f}"
            bar.update(task, completed=done, total=total, description=text)

        done = train(settings.train, shards, stop.is_set, show)
    return done, length(settings.train)


def _on_ray(settings: Settings, shards: str) -> tuple[int, int]:
    """One worker a GPU. A worker that is lost takes the others along; Ray Train starts them again
    from the latest checkpoint."""
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from harmoview.train.begin import length
    from harmoview.train.state import checkpoints
    from harmoview.train.train import CHECKPOINTS

    connect(settings.address, quiet=settings.quiet)
    out = settings.train.out.resolve()
    (out / STOP_FILE).unlink(missing_ok=True)
    gpus = settings.train.device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0
    with _told_to_stop((out / STOP_FILE).touch):
        TorchTrainer(
            _worker,
            train_loop_config={"settings": settings, "shards": str(Path(shards).resolve())},
            scaling_config=ScalingConfig(num_workers=settings.workers, use_gpu=gpus),
            run_config=RunConfig(
                name="ray",
                storage_path=str(out),
                failure_config=FailureConfig(max_failures=settings.max_failures),
            ),
        ).fit()
    (out / STOP_FILE).unlink(missing_ok=True)
    return max(checkpoints(out / CHECKPOINTS), default=0), length(settings.train)


def _worker(config: dict[str, Any]) -> None:
    """What each Ray worker runs, with torch.distributed set up."""
    import torch
    from ray.train.torch import get_device

    from harmoview.train.train import train
    from lora_engine.training.device import hush
    from lora_engine.training.parallel import rank

    hush()
    settings: Settings = config["settings"]
    device = get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    stop_file = settings.train.out.resolve() / STOP_FILE

    def show(done: int, total: int, record: dict[str, Any]) -> None:
        if rank() == 0 and done % 10 == 0:
            print(f"step {done} of {total}, phase {record['phase']}, loss {record['loss']:.4f}")

    train(settings.train, config["shards"], stop_file.exists, show)


@contextmanager
def _told_to_stop(also: Callable[[], object] = lambda: None) -> Iterator[threading.Event]:
    """Within the block SIGTERM sets the event instead of ending the process."""
    event = threading.Event()

    def told(*_: object) -> None:
        event.set()
        also()

    before = signal.signal(signal.SIGTERM, told)
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)


def main(argv: Sequence[str] | None = None) -> int:
    return entry.run(Settings, execute, argv, "train")


if __name__ == "__main__":
    sys.exit(main())
