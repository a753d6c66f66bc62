"""The settings of a LoRA training run, and the checks that need no model."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from datapipe.errors import UserError, install
from datapipe.files import Folder
from datapipe.record import YAWS
from lora_engine.flux.base import WEIGHTS, Base, find_base
from lora_engine.flux.options import TARGETS, Quantize, ReferenceMode
from lora_engine.pairs import PairsFolder
from training.options import Precision

MAY_CHANGE = ("out", "pairs", "base", "steps", "device", "shard", "checkpoint_every",
              "validate_every", "validation_people", "validation_steps", "tensorboard",
              "wandb")  # fmt: skip
"""Settings that a resumed run may have others of: the weights after a given step are the same."""
MAX_TEXT = 512
"""Tokens that stock Kontext allows a prompt."""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Everything that decides what is trained."""

    pairs: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="PAIRS")]
    """The folder that `harmoview pairs` wrote."""
    out: str
    """Folder of the adapter, the checkpoints and the metrics."""
    base: str
    """A diffusers folder or hub name of FLUX.1-Kontext-dev."""
    yaws: tuple[int, ...] = YAWS
    """Degrees; the pairs must have them."""
    steps: int = 3000
    """Optimiser steps."""
    resolution: int = 512
    """Side of reference and target, pixels."""
    rank: int = 32
    """Of the LoRA; a higher one can hold more and takes more memory."""
    alpha: float | None = None
    """None: as the rank."""
    targets: tuple[str, ...] = TARGETS
    """Modules that get a LoRA, by the end of their names."""
    reference_kv: bool = False
    """Two-pass reference (the adapter then works with it only)."""
    groups: int = 1
    """People in one step, over all processes; they share the step's gradient."""
    yaws_per_group: int = 4
    """Targets of one person in one step; they share the reference."""
    flip: tyro.conf.FlagConversionOff[bool] = True
    """Half of the groups are mirrored, with their yaws negated."""
    learning_rate: float = 1e-4
    """Of AdamW, after the warm-up."""
    warmup: int = 100
    """Steps over which the learning rate rises; constant after that."""
    weight_decay: float = 0.01
    """Of AdamW."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.99
    """Decay of the averaged weights, which are what is saved and validated; 0: none."""
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    """adamw8bit needs bitsandbytes."""
    quantize: Quantize = "none"
    """Hold the base in 8 bits (fp8, torchao) or 4 (nf4, bitsandbytes)."""
    shard: bool = False
    """Share the base out over the workers' GPUs (FSDP2), for one that does not fit on each."""
    gradient_checkpointing: tyro.conf.FlagConversionOff[bool] = True
    """Compute each block twice instead of keeping its activations."""
    text_length: int = 512
    """T5 tokens a prompt; synthesis must use the same."""
    precision: Precision | None = None
    """Of the base; None: bfloat16 on a GPU, float32 on a CPU. The LoRA is float32."""
    device: str | None = None
    """None: a GPU if there is one."""
    seed: int = 0
    """Of the LoRA's start, the order of people, noise and timesteps."""
    checkpoint_every: int = 250
    """Steps; the adapter is written then too."""
    validate_every: int = 500
    """Steps; 0: never."""
    validation_people: int = 4
    """Held-out people of whom views are made, at most."""
    validation_steps: int = 28
    """Denoising steps of validation views."""
    tensorboard: bool = False
    """Write metrics for TensorBoard too."""
    wandb: bool = False
    """Send metrics to Weights & Biases too."""

    def __post_init__(self) -> None:
        for name in ("steps", "resolution", "rank", "groups", "yaws_per_group", "text_length",
                     "checkpoint_every", "validation_people", "validation_steps"):  # fmt: skip
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise ValueError(f"--{option} must be at least 1, not {getattr(self, name)}")
        if self.text_length > MAX_TEXT:
            raise ValueError(f"--text-length must be at most {MAX_TEXT}, not {self.text_length}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"--ema must be at least 0 and under 1, not {self.ema}")
        if self.shard and self.quantize != "none":
            raise ValueError(
                "--shard and --quantize exclude each other: such weights are not shared"
            )
        if 0 not in self.yaws:
            raise ValueError("--yaws must hold 0: the frontal frame is the reference")
        if self.flip and {-yaw for yaw in self.yaws} != set(self.yaws):
            raise ValueError(f"--yaws {self.yaws} are not symmetric: give --flip False")

    @property
    def lora_alpha(self) -> float:
        return self.rank if self.alpha is None else self.alpha

    @property
    def reference_mode(self) -> ReferenceMode:
        return "two-pass" if self.reference_kv else "concatenated"


@dataclass(frozen=True, slots=True)
class Inputs:
    """A run's inputs, found and checked."""

    base: Base
    pairs: PairsFolder
    coverage: dict[str, tuple[int, ...]]
    """Subjects of the training split and the yaws they have."""


def check(settings: TrainSettings, processes: int) -> Inputs:
    """Everything that can be wrong, before anything heavy starts. Raises UserError naming it."""
    import torch

    from lora_engine.flux.base import base_shapes, check_targets
    from lora_engine.flux.quantize import check_quantize
    from training.device import device_named
    from training.metrics import check_trackers

    if processes == 1:  # several run where the GPUs are, which need not be here
        device_named(settings.device)
    check_quantize(settings.quantize, torch.device(settings.device or "cpu"))
    if settings.shard and processes == 1:
        raise UserError("--shard: a single worker has nobody to share the base with; leave it out")
    base = find_base(settings.base)
    check_targets(settings.targets, base_shapes(base, tuple(WEIGHTS)))
    if settings.resolution % base.multiple:
        raise UserError(f"--resolution {settings.resolution}: not a multiple of {base.multiple}")
    if settings.groups % processes:
        raise UserError(
            f"--groups {settings.groups}: cannot be shared by {processes} processes equally"
        )
    if Folder(settings.out).local is None:
        raise UserError(f"--out {settings.out}: must be a folder on a disk that all processes see")
    if settings.optimizer == "adamw8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            f"--optimizer adamw8bit: bitsandbytes is not installed: {install('quantize')}"
        )
    check_trackers(tensorboard=settings.tensorboard, wandb=settings.wandb)
    pairs = PairsFolder(Folder(settings.pairs))
    return Inputs(base, pairs, _check_pairs(settings, pairs))


def _check_pairs(settings: TrainSettings, pairs: PairsFolder) -> dict[str, tuple[int, ...]]:
    coverage = {
        key: tuple(yaw for yaw in yaws if yaw in settings.yaws)
        for key, yaws in pairs.coverage("train").items()
    }
    where = pairs.folder.url
    if not coverage:
        raise UserError(f"{where}: no subject in the training split; make the pairs again")
    side = pairs.settings.get("side", settings.resolution)  # as `harmoview pairs` noted it
    if settings.resolution > side:
        raise UserError(
            f"--resolution {settings.resolution}: the pictures in {where} are {side} pixels wide "
            f"and would be enlarged; make the pairs with --side {settings.resolution}, or train "
            f"with --resolution {side} at most"
        )
    if faceless := [key for key, yaws in coverage.items() if 0 not in yaws]:
        raise UserError(
            f"{where}: no frontal frame (yaw 0), which is the reference, of "
            f"{', '.join(faceless[:5])}{' …' if len(faceless) > 5 else ''}"
        )
    seen = {yaw for yaws in coverage.values() for yaw in yaws}
    if settings.flip:
        seen |= {-yaw for yaw in seen}
    if unseen := sorted(set(settings.yaws) - seen):
        raise UserError(f"{where}: no training subject has a frame at the yaws {unseen}")
    if settings.validate_every:
        held = pairs.coverage("validation")
        if not any(0 in yaws for yaws in held.values()):
            raise UserError(
                f"{where}: no validation people with a frontal frame; make the pairs with some, "
                "or train with --validate-every 0"
            )
    return coverage
