"""What a synthesis or a training is made of, found and checked before anything heavy is loaded."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from datapipe.errors import UserError, install
from datapipe.files import Folder
from lora_engine.flux import prompts
from lora_engine.flux.adapter import adapter_file, check_adapter, read_header
from lora_engine.flux.base import (
    SYNTHESIS,
    TEXT,
    WEIGHTS,
    Base,
    base_shapes,
    check_adapter_fits,
    check_targets,
    find_base,
)
from lora_engine.flux.quantize import check_quantize
from lora_engine.flux.settings import MAX_TEXT, FluxSettings, TrainLoraSettings
from lora_engine.pairs import PairsFolder
from training.device import check_attention, device_named
from training.metrics import check_trackers

BASE_RESOLUTION = 1024
"""Side in pixels of the views of a base alone."""


@dataclass(frozen=True, slots=True)
class SynthesisInputs:
    """The files that make views, and what they decide where the settings leave it to them."""

    base: Base
    adapter: Path | None
    embeddings: Path | None
    """The prompts' embeddings that came with the adapter."""
    yaws: tuple[int, ...]
    resolution: int
    """Side of a view in pixels."""
    text_length: int
    reference_kv: bool


def synthesis_inputs(
    settings: FluxSettings, yaws: Sequence[int], resolution: int | None
) -> SynthesisInputs:
    """Find and check every file and option without loading weights. Raises UserError."""
    if settings.base is None:
        raise UserError("--base: give a diffusers folder or hub name of FLUX.1-Kontext-dev")
    check_quantize(settings.quantize, device_named(None))
    if settings.attention is not None:
        check_attention(settings.attention)
    adapter = header = embeddings = None
    if settings.lora is not None:
        adapter = adapter_file(settings.lora)
        header = read_header(adapter)
        check_adapter(adapter, header, yaws, settings.reference_kv)
        beside = adapter.with_name(prompts.FILE)
        embeddings = beside if beside.is_file() else None
    base = find_base(settings.base, SYNTHESIS if embeddings else (*SYNTHESIS, *TEXT))
    weights = base_shapes(base)
    if adapter is not None:
        check_adapter_fits(adapter, base, weights)
    side = resolution or (header.resolution if header else BASE_RESOLUTION)
    _check_resolution(side, base)
    return SynthesisInputs(
        base=base,
        adapter=adapter,
        embeddings=embeddings,
        yaws=tuple(yaws),
        resolution=side,
        text_length=header.text_length if header else MAX_TEXT,
        reference_kv=header is not None and header.reference_mode == "two-pass",
    )


def _check_resolution(resolution: int, base: Base) -> None:
    if resolution % base.multiple:
        raise UserError(f"--resolution {resolution}: must be a multiple of {base.multiple}")


@dataclass(frozen=True, slots=True)
class TrainingInputs:
    """What a LoRA is trained on."""

    base: Base
    pairs: PairsFolder
    coverage: dict[str, tuple[int, ...]]
    """Subjects of the training split and the yaws they have."""


def training_inputs(settings: TrainLoraSettings, processes: int) -> TrainingInputs:
    """Find and check everything that can be wrong, naming what is. Raises UserError."""
    if processes == 1:  # several run where the GPUs are, which need not be here
        device_named(settings.device)
    check_quantize(settings.quantize, torch.device(settings.device or "cpu"))
    if settings.shard and processes == 1:
        raise UserError("--shard: a single worker has nobody to share the base with; leave it out")
    base = find_base(settings.base)
    check_targets(settings.targets, base_shapes(base, tuple(WEIGHTS)))
    _check_resolution(settings.resolution, base)
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
    return TrainingInputs(base, pairs, _check_pairs(settings, pairs))


def _check_pairs(settings: TrainLoraSettings, pairs: PairsFolder) -> dict[str, tuple[int, ...]]:
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
