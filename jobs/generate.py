"""`harmoview generate`: prompts and one or two identities in, mp4s and their settings out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from datapipe.errors import check_range
from harmoview.identity import read_identity
from harmoview.orders import Order, Sampling, read_orders
from jobs.cli import command
from jobs.options.fleet import Fleet, Model, make_videos


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
    """For each person a folder with reference.jpg and any of yaw-90.jpg … yaw+90.jpg, a frontal
    picture, or SHARDS::KEY (SHARDS::KEY.id1 for the second person) of packed shards."""
    prompts: Path | None = None
    """Instead of --prompt and --identity, many videos: a JSONL file with `name`, `prompt`,
    `identities` and if wanted `seed`, `height`, `width`, `frames`, `fps` of each. Run again, it
    makes only those that are missing."""
    out: Path = Path("video.mp4")
    """The video, or the folder for those of --prompts; the settings go beside each, as .json."""
    height: int | None = None
    """Pixels, a multiple of 16 (of 32 for TI2V-5B); the default is 480, or 704 for TI2V-5B."""
    width: int | None = None
    """Pixels, a multiple as for the height; the default is 832, or 1280 for TI2V-5B."""
    frames: int | None = None
    """Frames of the video, 1 more than a multiple of 4; the default is 81, or 121 for TI2V-5B."""
    fps: int | None = None
    """Frames a second of the file; the default is 16, or 24 for TI2V-5B."""
    seed: int = 0
    """Seed of the noise; the same seed gives the same video on the same machine."""
    sampling: Annotated[Sampling, tyro.conf.arg(name="")] = field(default_factory=Sampling)
    fleet: Annotated[Fleet, tyro.conf.arg(name="")] = field(default_factory=Fleet)
    quiet: bool = False
    """Show no progress."""

    def __post_init__(self) -> None:
        if self.prompts is not None:
            if self.prompt is not None or self.identity:
                raise ValueError("--prompts takes the place of --prompt and --identity")
            if self.out.suffix == ".mp4":
                raise ValueError(f"--out is a folder with --prompts, not {self.out}")
        else:
            if self.prompt is None:
                raise ValueError("--prompt is missing, or --prompts")
            if self.out.suffix != ".mp4":
                raise ValueError(f"--out must end in .mp4, not {self.out}")
            if not 1 <= len(self.identity) <= 2:
                raise ValueError(f"--identity takes one or two, not {len(self.identity)}")
        check_range(self, "height", "width", "frames", "fps", least=1)


def execute(settings: GenerateSettings) -> None:
    """Check, load, generate, write."""
    if settings.prompts is None:
        assert settings.prompt is not None  # by __post_init__
        order = Order(
            name=settings.out.stem,
            prompt=settings.prompt,
            pictures=tuple(read_identity(source) for source in settings.identity),
            seed=settings.seed,
            height=settings.height,
            width=settings.width,
            frames=settings.frames,
            fps=settings.fps,
            about={"identity": list(settings.identity)},
        )
        orders, out = [order], settings.out.parent
    else:
        orders, out = read_orders(settings.prompts), settings.out
    model = Model(settings.base, settings.checkpoint, settings.sampling)
    again = settings.prompts is None
    made = make_videos(model, orders, str(out), settings.fleet, again=again, quiet=settings.quiet)
    if not settings.quiet:
        print(f"{settings.out} ({made} made, {len(orders) - made} there already)")


main = command(__name__, GenerateSettings, execute, first=("prompt", "identity", "out"))
