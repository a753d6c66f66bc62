"""`harmoview generate`: prompts and one or two identities in, mp4s and their settings out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from datapipe.claim import locked
from datapipe.errors import UserError, check_range
from datapipe.files import Folder
from datapipe.record import YAWS
from harmoview.identity import read_identity
from harmoview.orders import (
    LARGEST_SEED,
    SIZES,
    Order,
    Sampling,
    check_free,
    check_made,
    made_by,
    read_orders,
)
from jobs.cli import command
from jobs.options.crew import VideoModel
from jobs.options.engine import EngineOptions
from jobs.options.fleet import Fleet, make_videos
from lora_engine.flux.settings import FluxSettings


@dataclass(frozen=True)
class GenerateSettings:
    """Make a video of one or two people from pictures of them and a prompt.

    Sizes and sampling default to what the makers of the base use; the numbers used are in the JSON
    beside the video.
    """

    base: str
    """A Wan pipeline in diffusers' layout: a folder or a hub name."""
    checkpoint: Path
    """What `harmoview train` exported: transformer/, and transformer_2/ for A14B."""
    prompt: str | None = None
    """What happens in the video."""
    identity: tuple[str, ...] = ()
    """For each person a photo that shows the face from the front, a folder with reference.jpg and
    any of yaw-90.jpg … yaw+90.jpg, or SHARDS::KEY (SHARDS::KEY.id1 for the second person) of packed
    shards. Photos are cut to the square around the head, as references are."""
    prompts: Path | None = None
    """Instead of --prompt and --identity, many videos: a JSONL file with `name`, `prompt`,
    `identities` and if wanted `seed`, `height`, `width`, `frames`, `fps` of each. Run again, it
    makes only those that are missing."""
    out: Path = Path("video.mp4")
    """The video, or the folder for those of --prompts. Beside each go the settings, as .json, and a
    picture of the people and views that the model saw, as .jpg."""
    height: int | None = None
    """Pixels, a multiple of 16 (of 32 for TI2V-5B); the default is 480, or 704 for TI2V-5B."""
    width: int | None = None
    """Pixels, a multiple as for the height; the default is 832, or 1280 for TI2V-5B."""
    frames: int | None = None
    """Frames of the video, 1 more than a multiple of 4; the default is 81, or 121 for TI2V-5B."""
    fps: int | None = None
    """Frames a second of the file; the default is 16, or 24 for TI2V-5B."""
    make_views: Literal["none", "mesh", "flux"] = "none"
    """Make the views that a person with a frontal picture lacks before the video: with the mesh
    engine on the CPU, or with FLUX.1 Kontext. They are kept in the folder views beside it."""
    kontext: str | None = None
    """The base for --make-views flux, a diffusers folder or hub name of FLUX.1-Kontext-dev."""
    kontext_lora: str | None = None
    """The adapter of `harmoview train-lora` for it."""
    seed: int = 0
    """Seed of the noise; the same seed gives the same video on the same machine."""
    sampling: Annotated[Sampling, tyro.conf.arg(name="")] = field(default_factory=Sampling)
    fleet: Annotated[Fleet, tyro.conf.arg(name="")] = field(default_factory=Fleet)
    quiet: bool = False
    """Show no progress."""

    def __post_init__(self) -> None:
        """Raises ValueError for options that cannot be, or not together."""
        if self.prompts is not None:
            if self.prompt is not None or self.identity:
                raise ValueError("--prompts takes the place of --prompt and --identity")
            if self.out.suffix == ".mp4":
                raise ValueError(f"--out is a folder with --prompts, not {self.out}")
            sizes = [name for name in SIZES if getattr(self, name) is not None]
            if own := sizes + ["seed"] * (self.seed != 0):
                raise ValueError(f"--{own[0]}: each line of --prompts has its own {own[0]}")
        else:
            if self.prompt is None or not self.prompt.strip():
                raise ValueError("--prompt is missing, or --prompts")
            if self.out.suffix != ".mp4":
                raise ValueError(f"--out must end in .mp4, not {self.out}")
            if not 1 <= len(self.identity) <= 2:
                raise ValueError(f"--identity takes one or two, not {len(self.identity)}")
        check_range(self, "height", "width", "frames", "fps", least=1)
        check_range(self, "seed", least=0, most=LARGEST_SEED)
        if (self.make_views == "flux") != (self.kontext is not None):
            raise ValueError("--make-views flux and --kontext go together")
        if self.kontext_lora is not None and self.kontext is None:
            raise ValueError("--kontext-lora is for --make-views flux")


def execute(settings: GenerateSettings) -> None:
    """Check, load, generate, write. Raises UserError."""
    if settings.prompts is None:
        orders, out = [_single(settings)], Folder(settings.out.parent)
    else:
        orders, out = read_orders(settings.prompts), Folder(settings.out)
    model = VideoModel(settings.base, settings.checkpoint, settings.sampling)
    again = settings.prompts is None
    with nullcontext() if again else locked(out):
        check_free(out, orders)
        if settings.make_views != "none":
            orders = _with_views(settings, orders, out)
        if not again:
            check_made(out, orders, made_by(model.base, model.checkpoint, model.sampling))
        made = make_videos(
            model, orders, out.url, settings.fleet, again=again, quiet=settings.quiet
        )
    if not settings.quiet:
        print(f"{settings.out} ({made} made, {len(orders) - made} there already)")


def _single(settings: GenerateSettings) -> Order:
    """The video of --prompt. Raises UserError, also where it would replace somebody's file."""
    assert settings.prompt is not None  # by __post_init__
    if settings.out.exists():
        raise UserError(f"{settings.out} would be replaced: move it away, or give another --out")
    return Order(
        name=settings.out.stem,
        prompt=settings.prompt,
        pictures=tuple(read_identity(source) for source in settings.identity),
        people=settings.identity,
        seed=settings.seed,
        height=settings.height,
        width=settings.width,
        frames=settings.frames,
        fps=settings.fps,
    )


def _with_views(settings: GenerateSettings, orders: Sequence[Order], out: Folder) -> list[Order]:
    """Fill the orders with made views. Raises UserError."""
    from harmoview.made_views import with_views

    engine = EngineOptions(
        engine="flux" if settings.make_views == "flux" else "mesh",
        flux=FluxSettings(base=settings.kontext, lora=settings.kontext_lora),
    )
    told: Callable[[str], object] = (lambda line: None) if settings.quiet else print
    filled = with_views(orders, engine.load(YAWS), out.folder("views"), told)
    if settings.make_views == "flux":
        _leave_the_gpu()
    return filled


def _leave_the_gpu() -> None:
    """Give the memory of the view engine to the processes that load the video model."""
    import torch

    from training.device import free_memory

    if torch.cuda.is_available():
        free_memory(torch.device("cuda"))


main = command(__name__, GenerateSettings, execute, first=("prompt", "identity", "out"))
