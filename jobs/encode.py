"""`harmoview encode`: packed shards to latents, text embeddings and vision features."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from datapipe.errors import UserError, check_range
from datapipe.line.cluster import LOCAL, connect, gpus_there
from harmoview.encode.settings import EncodeSettings
from jobs.cli import command, need_train
from jobs.console.output import progress
from jobs.options.launch import enter

if TYPE_CHECKING:
    from datapipe.shards import Shard
    from harmoview.encode.run import Work

POLL = 5.0
"""Seconds between two looks at the workers, at most."""
RETRIES = 2
"""How often a shard whose worker died is begun again."""


@dataclass(frozen=True)
class EncodeJobSettings:
    """Encode packed shards once, so that training need not.

    Run again it continues: a shard is encoded when its index is there. Samples that cannot be
    encoded are left out, counted in the manifest and named in OUT/skipped.jsonl.
    """

    shards: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SHARDS")]
    """The folder that `harmoview pack` wrote, local or on an object store."""
    out: str
    """Folder of the encoded shards, local or on an object store."""
    encode: tyro.conf.OmitArgPrefixes[EncodeSettings]
    local: bool = False
    """Encode in this process, without Ray."""
    workers: int | None = None
    """Processes on Ray; the default is one a GPU, or one for every four CPUs where there is none.
    The cluster's autoscaler is asked for GPUs that are missing: for one by default."""
    address: str | None = None
    """Ray cluster; the default is a local one."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """auto is the GPUs where there are any."""
    quiet: bool = False
    """Show no progress and no summary."""

    def __post_init__(self) -> None:
        check_range(self, "workers", least=1)


def execute(settings: EncodeJobSettings) -> None:
    """Check, encode, sum up. Raises UserError."""
    need_train("encode")
    from training.device import silence_libraries

    silence_libraries()
    from datapipe.claim import locked
    from datapipe.files import Folder
    from harmoview.encode.encoder import base_recipe
    from harmoview.encode.run import encode, encode_here, packed_manifest

    source, out = Folder(settings.shards), Folder(settings.out)
    packed_manifest(source)
    base_recipe(settings.encode.base)
    work = (
        encode_here(source, out, settings.encode, _device(settings))
        if settings.local
        else on_ray(settings)
    )
    with locked(out), progress("encode", quiet=settings.quiet) as show:
        manifest = encode(source, out, settings.encode, work, show)
    if not settings.quiet:
        skipped = "".join(f", {count:,} {why}" for why, count in manifest.skipped.items())
        left_out = f"; left out{skipped[1:]}: see skipped.jsonl there" if skipped else ""
        print(f"encoded {manifest.samples:,} samples into {out.url}{left_out}")


def on_ray(settings: EncodeJobSettings) -> Work:
    """The work done by actors on Ray, a shard at a time; it raises UserError."""

    def work(shards: Sequence[Shard]) -> Iterable[str | None]:
        import ray

        from harmoview.encode.run import EncodeWorker

        class Entered(EncodeWorker):
            """Works in the command's folder, wherever Ray starts it."""

            def __init__(self, folder: Path, *told: Any) -> None:
                enter(folder)
                super().__init__(*told)

        if not shards:
            return
        where = connect(settings.address, log_to_driver=False)
        count, device, share = share_out(settings, where, len(shards))
        actor = ray.remote(Entered).options(**share, max_restarts=-1, max_task_retries=RETRIES)
        told = Path.cwd(), settings.shards, settings.out, settings.encode, device
        workers = [actor.remote(*told) for _ in range(count)]
        try:
            yield from _hand_out(workers, deque(shards))
        except ray.exceptions.RayTaskError as failed:
            if isinstance(failed.cause, UserError):
                raise failed.cause from failed
            raise
        except ray.exceptions.RayActorError as died:
            raise UserError(
                f"an encoding worker could not be kept alive: {died}; "
                "what is done is kept, run the same command again"
            ) from died
        finally:
            for worker in workers:  # their memory is for whatever comes next
                ray.kill(worker)

    return work


def share_out(
    settings: EncodeJobSettings, where: str, shards: int
) -> tuple[int, str, dict[str, float]]:
    """How many workers there are, on which device, and what of the cluster at `where` each takes.

    Waits for GPUs that are on their way. Raises UserError where there are none and --device wants
    them.
    """
    import ray

    gpus = 0
    if settings.device != "cpu":
        gpus = gpus_there(min(settings.workers or 1, shards), where)
        if settings.device == "cuda" and not gpus:
            raise UserError("--device cuda: the Ray cluster has no GPU, and none is on its way")
        if not gpus and where != LOCAL:
            print("no GPU in the cluster and none on its way: encoding on CPUs", file=sys.stderr)
    cpus = int(ray.cluster_resources().get("CPU", 1))
    count = min(settings.workers or gpus or max(1, cpus // 4), shards)
    each = -(-count // (gpus or cpus))  # workers that share a device
    share = int(100 / each) / 100
    return count, "cuda" if gpus else "cpu", {"num_gpus" if gpus else "num_cpus": share}


def _hand_out(workers: Sequence[Any], shards: deque[Shard]) -> Iterator[str | None]:
    """Give each worker a shard as soon as it has loaded its models, then one after the other.

    A worker for which the cluster has no room yet holds nothing that the others would wait for.
    """
    import ray

    loading = {worker.load.remote(): worker for worker in workers}
    streams: dict[Any, Any] = {}
    while shards or streams:
        ready, _ = ray.wait([*loading, *streams], timeout=POLL)
        for call in ready:
            if call in loading:
                ray.get(call)
                worker = loading.pop(call)
            else:
                try:
                    while ray.wait([call], timeout=0)[0]:
                        yield ray.get(next(call))
                    continue
                except StopIteration:
                    worker = streams.pop(call)
            if shards:
                stream = worker.encode.options(num_returns="streaming").remote(shards.popleft())
                streams[stream] = worker


def _device(settings: EncodeJobSettings) -> str:
    from training.device import device_named

    return str(device_named(None if settings.device == "auto" else settings.device))


main = command(__name__, EncodeJobSettings, execute, first=("vit", "workers", "local", "device"))
