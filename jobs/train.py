"""`harmoview train`: the Progressive View Curriculum, on one device or on a Ray cluster."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from datapipe.claim import Claim
from datapipe.errors import UserError, check_range
from harmoview.encode.settings import EncodeSettings
from harmoview.train.settings import TrainSettings
from jobs.cli import command, need_train
from jobs.console.output import steps
from jobs.options.launch import Launch, on_ray, told_to_stop
from jobs.settings_file import options_of

if TYPE_CHECKING:
    from harmoview.data.encoded import EncodedShards


@dataclass(frozen=True)
class TrainJobSettings:
    """Train HarmoView on packed or encoded shards, phase after phase.

    Packed shards are encoded first, into OUT/encoded, with the default sizes of the base. Run it
    again with --resume to continue a run that was stopped; it goes on as if it had not been. On
    Ctrl-C or SIGTERM it writes a checkpoint and ends with exit status 130 or 143. Several
    --workers run on Ray; `torchrun -m jobs.train` runs it too, in the processes that it starts.
    """

    shards: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SHARDS")]
    """The folder that `harmoview encode` or `harmoview pack` wrote."""
    train: tyro.conf.OmitArgPrefixes[TrainSettings]
    plan: bool = False
    """Only say what the run will take: work, memory of each GPU by part, disk, days. Of the base
    the configs are enough, and sizes are the base's own where SHARDS are not encoded yet."""
    card: str | None = None
    """The GPU of the plan, like H100, H200 or A100; the default is the one that is here, else
    H100."""
    mfu: float = 0.4
    """The share of a GPU's peak at which the plan reckons."""
    resume: bool = False
    """Continue the run in --out; the number of workers may be another one."""
    launch: tyro.conf.OmitArgPrefixes[Launch] = field(default_factory=Launch)
    quiet: bool = False
    """Show no progress."""

    def __post_init__(self) -> None:
        check_range(self, "mfu", above=0, most=1)


def execute(settings: TrainJobSettings) -> int:
    """Encode if need be, claim the folder, train. Raises UserError for --workers under torchrun."""
    need_train("train")
    from training.device import silence_libraries

    silence_libraries()
    from datapipe.claim import locked
    from datapipe.files import Folder
    from harmoview.data.encoded import EncodedShards
    from harmoview.train.checks import check_and_claim
    from harmoview.train.report import describe
    from training import parallel

    if settings.plan:
        _plan(settings)
        return 0
    settings.train.out.mkdir(parents=True, exist_ok=True)
    first = parallel.is_first()
    with locked(Folder(settings.train.out)) if first else nullcontext():
        shards = encoded(settings)
        workers = settings.launch.workers
        processes = workers * parallel.launched()
        claim = check_and_claim(settings.train, shards, processes, resume=settings.resume)
        if first and not settings.quiet:
            data = EncodedShards(*settings.train.folders(shards))
            for line in (*describe(settings.train, data), *_in_short(settings, data, processes)):
                print(line, file=sys.stderr)
        claim = replace(claim, options=options_of(settings))
        if workers > 1 and processes > workers:
            raise UserError("torchrun starts the workers: leave --workers out")
        run = _in_this_process if workers == 1 else _on_ray
        done, of, status = run(settings, shards, claim)
    if not first:
        return status if done < of else 0
    if done < of:
        print(
            f"stopped after step {done} of {of}; its checkpoint is in {settings.train.out}: "
            "run the same command with --resume to go on",
            file=sys.stderr,
        )
        return status
    if not settings.quiet:
        print(f"the model is in {settings.train.out}/model, metrics in metrics.jsonl beside it")
    return 0


def _plan(settings: TrainJobSettings) -> None:
    """Print what `--plan` says; nothing is written, and no weights are read."""
    from datapipe.files import Folder
    from harmoview.data.encoded import EncodedShards
    from harmoview.encode.manifest import KIND, kind_of
    from harmoview.train.plan import plan_run
    from jobs.console.train_plan import print_train_plan
    from training.device import card_here, card_named

    folders = settings.train.folders(settings.shards)
    there = all(kind_of(Folder(one)) == KIND for one in folders)
    data = EncodedShards(*folders) if there else None
    card = card_named(settings.card) if settings.card else card_here() or card_named("H100")
    plan = plan_run(settings.train, data, settings.launch.workers, on_gpu=True, card=card)
    print_train_plan(plan, card, settings.mfu)


def _in_short(settings: TrainJobSettings, data: EncodedShards, processes: int) -> Iterator[str]:
    import torch

    from harmoview.train.plan import plan_run
    from harmoview.train.report import short_lines
    from training.device import card_here, device_named

    device = settings.train.device
    if settings.launch.workers > 1 and device != "cpu" and not torch.cuda.is_available():
        return iter(())  # which GPUs the cluster's nodes have is not known here
    on_gpu = device_named(device).type == "cuda"
    card = card_here() if on_gpu else None
    plan = plan_run(settings.train, data, processes, on_gpu=on_gpu, card=card)
    return short_lines(plan, card, settings.mfu)


def encoded(settings: TrainJobSettings) -> str:
    """The folder of encoded shards, made first where packed ones were given.

    Raises UserError where it would be made under torchrun.
    """
    from datapipe.files import Folder
    from harmoview.encode.manifest import KIND, kind_of
    from jobs import encode
    from training import parallel

    source = Folder(settings.shards)
    if kind_of(source) == KIND:
        return settings.shards
    if parallel.launched() > 1:
        raise UserError(f"{settings.shards} holds no encoded shards: under torchrun, encode first")
    out = Folder(settings.train.out).folder("encoded").url
    how = EncodeSettings(
        base=settings.train.base,
        vit="none" if settings.train.without_mfi else settings.train.vit or "none",
    )
    encode.execute(
        encode.EncodeJobSettings(
            settings.shards,
            out,
            how,
            local=settings.launch.workers == 1,
            address=settings.launch.address,
            device="cpu" if settings.train.device == "cpu" else "auto",
            quiet=settings.quiet,
        )
    )
    return out


def _in_this_process(settings: TrainJobSettings, shards: str, claim: Claim) -> tuple[int, int, int]:
    from harmoview.train.checks import total_steps
    from harmoview.train.train import train
    from training import parallel

    quiet = settings.quiet or not parallel.is_first()
    with told_to_stop() as stop, steps("train", quiet=quiet) as told:
        done = train(settings.train, shards, claim, stop.is_set, _shown(told))
    return done, total_steps(settings.train), stop.status


def _on_ray(settings: TrainJobSettings, shards: str, claim: Claim) -> tuple[int, int, int]:
    from datapipe.files import Folder
    from harmoview.train.checks import total_steps
    from harmoview.train.settings import CHECKPOINTS
    from training.learned import checkpoints

    out = settings.train.out
    work = functools.partial(_worker, settings, Folder(shards).url, claim)
    status = on_ray(settings.launch, work, out, settings.train.device, quiet=settings.quiet)
    done = max(checkpoints(out / CHECKPOINTS), default=0)
    return done, total_steps(settings.train), status


def _worker(
    settings: TrainJobSettings, shards: str, claim: Claim, stop: Callable[[], bool]
) -> None:
    """What each Ray worker runs."""
    from harmoview.train.train import train
    from training.parallel import rank

    with steps("train", quiet=settings.quiet or rank() > 0) as told:
        train(settings.train, shards, claim, stop, _shown(told))


def _shown(told: Callable[[int, int, str], None]) -> Callable[[int, int, dict[str, Any]], None]:
    """What shows a step of a training."""
    return lambda done, total, record: told(done, total, _words(record))


def _words(record: dict[str, Any]) -> str:
    """Return what a line of progress says of a step, beside its time and what is left."""
    expert = f"{record['expert']}-noise expert, " if record["expert"] else ""
    used = f", MFU {record['mfu']:.1%}" if "mfu" in record else ""
    return (
        f"{expert}phase {record['phase']}, loss {record['loss']:.4f}, "
        f"{record['tokens_per_second']:,.0f} tokens/s{used}"
    )


main = command(__name__, TrainJobSettings, execute, first=("vit", "phases", "steps", "workers"))
