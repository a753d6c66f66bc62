"""What a training of the LoRA is made of, found and checked before anything heavy is loaded."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch

from datapipe.errors import UserError, install
from datapipe.files import Folder
from lora_engine.flux.adapter import adapter_file, check_init
from lora_engine.flux.base import (
    WEIGHTS,
    Base,
    base_shapes,
    check_adapter_fits,
    check_targets,
    find_base,
)
from lora_engine.flux.prompts import read_prompts, standard
from lora_engine.flux.settings import TrainLoraSettings
from lora_engine.pairs import PairsFolder
from training.device import device_named
from training.metrics import check_trackers
from training.quantize import check_quantize


@dataclass(frozen=True, slots=True)
class TrainingInputs:
    """What a LoRA is trained on."""

    base: Base
    pairs: PairsFolder
    coverage: dict[str, tuple[int, ...]]
    """Subjects of the training split and the yaws they have."""
    prompts: dict[int, str]
    """By yaw."""


def training_inputs(settings: TrainLoraSettings, processes: int) -> TrainingInputs:
    """Find and check everything that can be wrong, naming what is. Raises UserError."""
    if processes == 1:  # several run where the GPUs are, which need not be here
        device_named(settings.device)
    check_quantize(settings.quantize, torch.device(settings.device or "cpu"))
    if settings.shard and processes == 1:
        raise UserError("--shard: a single worker has nobody to share the base with; leave it out")
    base = find_base(settings.base)
    weights = base_shapes(base, tuple(WEIGHTS))
    check_targets(settings.targets, weights)
    if settings.init is not None:
        init = adapter_file(settings.init, "--init")
        check_init(init, settings)
        check_adapter_fits(init, base, weights, "--init")
    for side in settings.resolution:
        base.check_resolution(side)
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
    own = settings.prompts
    texts = standard(settings.yaws) if own is None else read_prompts(Path(own), settings.yaws)
    return TrainingInputs(base, pairs, _check_pairs(settings, pairs), texts)


def _check_pairs(settings: TrainLoraSettings, pairs: PairsFolder) -> dict[str, tuple[int, ...]]:
    coverage = {
        key: tuple(yaw for yaw in yaws if yaw in settings.yaws)
        for key, yaws in pairs.coverage("train").items()
    }
    where = pairs.folder.url
    if not coverage:
        raise UserError(f"{where}: no subject in the training split; make the pairs again")
    largest = max(settings.resolution)
    side = pairs.settings.get("side", largest)  # as `harmoview pairs` noted it
    if largest > side:
        raise UserError(
            f"--resolution {largest}: the pictures in {where} are {side} pixels wide "
            f"and would be enlarged; make the pairs with --side {largest}, or train "
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
