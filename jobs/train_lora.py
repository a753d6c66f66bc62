"""`harmoview train-lora`: the view-synthesis LoRA, from pairs to an adapter."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from datapipe.claim import Claim, locked
from datapipe.files import Folder
from jobs.cli import command, need_train
from jobs.console.output import steps
from jobs.options.engine import FaceSettings
from jobs.options.launch import Launch, on_ray, told_to_stop
from jobs.settings_file import options_of
from jobs.views import measure_views
from lora_engine.flux.settings import TrainLoraSettings

if TYPE_CHECKING:
    from lora_engine.flux.validation import Measure


@dataclass(frozen=True)
class TrainLoraJobSettings:
    """Train the LoRA that turns a frontal portrait to a given yaw.

    Run it again with --resume to continue a run that was stopped; it goes on as if it had not been.
    On Ctrl-C or SIGTERM it writes a checkpoint and ends with exit status 130 or 143.
    """

    train: tyro.conf.OmitArgPrefixes[TrainLoraSettings]
    resume: bool = False
    """Continue the run in --out."""
    launch: tyro.conf.OmitArgPrefixes[Launch] = field(default_factory=Launch)
    faces: tyro.conf.OmitArgPrefixes[FaceSettings] = field(default_factory=FaceSettings)
    quiet: bool = False
    """Show no progress."""


def execute(settings: TrainLoraJobSettings) -> int:
    """Check and claim the output folder, then train in this process or in several."""
    need_train("train-lora")
    from training.device import silence_libraries

    silence_libraries()
    from lora_engine.flux.train import check_and_claim

    how, workers = settings.train, settings.launch.workers
    with locked(Folder(how.out)):
        claim = check_and_claim(how, workers, resume=settings.resume)
        claim = replace(claim, options=options_of(settings))
        done, status = how.steps, 0
        if workers == 1:
            done, status = _in_this_process(settings, claim)
        else:
            done, status = _on_ray(settings, claim)
    if done < how.steps:
        print(
            f"stopped after step {done} of {how.steps}; its checkpoint is in {how.out}: run the "
            "same command with --resume to go on",
            file=sys.stderr,
        )
        return status
    if not settings.quiet:
        print(f"adapter, prompts and metrics are in {settings.train.out}")
    return 0


def _in_this_process(settings: TrainLoraJobSettings, claim: Claim) -> tuple[int, int]:
    """The steps done, and the exit status where they are not all."""
    from lora_engine.flux.train import train

    with told_to_stop() as stop, steps("train-lora", quiet=settings.quiet) as told:
        done = train(
            settings.train,
            claim,
            _measure(settings),
            _shown(settings, told),
            stop.is_set,
        )
    return done, stop.status


def _on_ray(settings: TrainLoraJobSettings, claim: Claim) -> tuple[int, int]:
    from lora_engine.flux.train import CHECKPOINTS
    from training.learned import checkpoints

    work, out = functools.partial(_worker, settings, claim), Path(settings.train.out)
    status = on_ray(settings.launch, work, out, settings.train.device, quiet=settings.quiet)
    return max(checkpoints(out / CHECKPOINTS), default=0), status


def _worker(settings: TrainLoraJobSettings, claim: Claim, stop: Callable[[], bool]) -> None:
    """What each Ray worker runs."""
    from lora_engine.flux.train import train
    from training.parallel import rank

    with steps("train-lora", quiet=settings.quiet or rank() > 0) as told:
        train(settings.train, claim, _measure(settings), _shown(settings, told), stop)


def _shown(
    settings: TrainLoraJobSettings, told: Callable[[int, int, str], None]
) -> Callable[[int, float], None]:
    """What shows a step of a training."""
    return lambda done, loss: told(done, settings.train.steps, f"loss {loss:.4f}")


def _measure(settings: TrainLoraJobSettings) -> Measure | None:
    """What measures validation views, if they are wanted."""
    if not settings.train.validate_every:
        return None
    faces = settings.faces.load()
    faces.setup()
    return functools.partial(measure_views, faces)


main = command(
    __name__, TrainLoraJobSettings, execute, first=("steps", "rank", "resolution", "resume")
)
