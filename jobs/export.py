"""`harmoview export`: a model from any checkpoint of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jobs.cli import command, need_train


@dataclass(frozen=True)
class ExportSettings:
    """Make a model of a checkpoint that `harmoview train` has kept (see --keep and --resume there).

    diffusers: a folder for `harmoview generate --checkpoint`, `--init` and `from_pretrained`.
    comfy: one file for ComfyUI, for models/loras where a LoRA was trained, else for
    models/diffusion_models; without the new parts, which ComfyUI does not know. single-file: the
    whole expert in one file with Wan's own names, a LoRA added to its weights.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The --out of `harmoview train`."""
    step: int | None = None
    """Step of the checkpoint; the default is the latest one."""
    format: Literal["diffusers", "comfy", "single-file"] = "diffusers"
    """What reads the model."""
    weights: Literal["averaged", "last"] = "averaged"
    """The moving averages of the weights, or the weights of that very step."""
    out: Path | None = None
    """Folder for the model; the default is RUN/export."""
    quiet: bool = False
    """Do not say what was written."""


def execute(settings: ExportSettings) -> int:
    """Read the checkpoint and write the model."""
    need_train("export")
    from training.device import silence_libraries

    silence_libraries()
    from harmoview.train.export import export_checkpoint
    from harmoview.train.settings import CHECKPOINTS

    written = export_checkpoint(
        settings.run / CHECKPOINTS,
        settings.step,
        settings.out or settings.run / "export",
        settings.format,
        averaged=settings.weights == "averaged",
    )
    if not settings.quiet:
        print(written)
    return 0


main = command(__name__, ExportSettings, execute)
