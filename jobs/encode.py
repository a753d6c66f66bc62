"""`harmoview encode`: packed shards to latents, text embeddings and vision features."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from datapipe.errors import UserError
from harmoview.encode.settings import EncodeSettings
from jobs import entry
from jobs.cluster import connect
from jobs.extras import need_train

if TYPE_CHECKING:
    from datapipe.pack.shards import Shard
    from harmoview.encode.run import Work

RETRIES = 2
"""Times that a shard whose worker died is begun again."""


@dataclass(frozen=True)
class Settings:
    """Encode packed shards once, so that training need not.

    Run again it continues: a shard is encoded when its index is there. Samples that cannot be
    encoded are skipped with a warning and counted in the manifest.
    """

    shards: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SHARDS")]
    """The folder that `harmoview pack` wrote, local or on an object store."""
    out: str
    """Folder of the encoded shards, local or on an object store."""
    encode: tyro.conf.OmitArgPrefixes[EncodeSettings]
    local: bool = False
    """In this process, without Ray."""
    workers: int | None = None
    """Ray actors; the default is one a GPU, or one for every four CPUs where there is none."""
    address: str | None = None
    """Ray cluster; the default is a local one."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    quiet: bool = False
    """Show no progress and no summary."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"--workers must be at least 1, not {self.workers}")


def execute(settings: Settings) -> None:
    """Check, encode, sum up."""
    need_train("encode")
    from datapipe.files import Folder
    from datapipe.run.lock import locked
    from harmoview.encode.encoder import base_recipe
    from harmoview.encode.run import encode, encode_here, packed_manifest
    from lora_engine.training.device import hush

    hush()
    source, out = Folder(settings.shards), Folder(settings.out)
    packed_manifest(source)
    base_recipe(settings.encode.base)
    work = (
        encode_here(source, out, settings.encode, _device(settings))
        if settings.local
        else on_ray(settings)
    )
    with locked(out), _progress(settings.quiet) as show:
        manifest = encode(source, out, settings.encode, work, show)
    if not settings.quiet:
        skipped = "".join(f", {count} skipped as {why}" for why, count in manifest.skipped.items())
        print(f"encoded {manifest.samples:,} samples into {out.url}{skipped}")


def on_ray(settings: Settings) -> Work:
    """Work by Ray actors, one shard a task."""

    def work(shards: Sequence[Shard]) -> Iterable[Shard]:
        import ray
        from ray.util import ActorPool

        from harmoview.encode.run import Worker

        if not shards:
            return
        connect(settings.address, quiet=True)
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0)) if settings.device != "cpu" else 0
        if settings.device == "cuda" and not gpus:
            raise UserError("--device cuda: the Ray cluster has no GPU")
        cpus = int(resources.get("CPU", 1))
        count = min(settings.workers or gpus or max(1, cpus // 4), len(shards))
        of_one = int(min(1.0, (gpus or cpus) / count) * 100) / 100
        share = {"num_gpus": of_one} if gpus else {"num_cpus": of_one}
        actor = ray.remote(Worker).options(**share, max_restarts=-1, max_task_retries=RETRIES)
        device = "cuda" if gpus else "cpu"
        pool = ActorPool(
            [actor.remote(settings.shards, settings.out, settings.encode, device)
             for _ in range(count)]
        )  # fmt: skip
        try:
            yield from pool.map_unordered(lambda worker, shard: worker.encode.remote(shard), shards)
        except ray.exceptions.RayTaskError as failed:
            if isinstance(failed.cause, UserError):
                raise failed.cause from failed
            raise
        except ray.exceptions.RayActorError as died:
            raise UserError(
                f"an encoding worker could not be kept alive: {died}; "
                "what is done is kept, run the same command again"
            ) from died

    return work


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=quiet) as bar:
        task = bar.add_task("encode, shards", total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def _device(settings: Settings) -> str:
    from lora_engine.training.device import device_named

    return str(device_named(None if settings.device == "auto" else settings.device))


def main(argv: Sequence[str] | None = None) -> int:
    return entry.run(Settings, execute, argv, "encode")


if __name__ == "__main__":
    sys.exit(main())
