"""The inputs of a synthesis, found and checked before anything heavy is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datapipe.errors import UserError
from lora_engine.flux import prompts
from lora_engine.flux.adapter import adapter_file, check_adapter, read_header, turbo_shapes
from lora_engine.flux.base import (
    SYNTHESIS,
    TEXT,
    Base,
    base_shapes,
    check_adapter_fits,
    find_base,
)
from lora_engine.flux.prompts import standard
from lora_engine.flux.settings import SPEEDS, FluxSettings
from training.device import check_attention, device_named
from training.quantize import check_quantize

BASE_RESOLUTION = 1024
"""Side in pixels of views by a base without adapter."""


@dataclass(frozen=True, slots=True)
class SynthesisInputs:
    """The files that make views, and what they decide where the settings leave it open."""

    base: Base
    adapter: Path | None
    embeddings: Path | None
    """The prompts' embeddings that came with the adapter."""
    turbo: Path | None
    """The few-step LoRA."""
    prompts: Mapping[int, str]
    """By yaw: the adapter's own, or the standard ones."""
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
    check_quantize(settings.quantize or "none", device_named(None))
    if settings.attention is not None:
        check_attention(settings.attention)
    adapter = header = embeddings = None
    if settings.lora is not None:
        adapter = adapter_file(settings.lora)
        header = read_header(adapter)
        check_adapter(adapter, header, yaws, settings.reference_kv)
        beside = adapter.with_name(prompts.FILE)
        embeddings = beside if beside.is_file() else None
        if resolution is not None and resolution not in header.resolution:
            trained = " and ".join(map(str, header.resolution))
            raise UserError(
                f"--resolution {resolution}: --lora {adapter} was trained at {trained}; "
                "leave --resolution out, or train an adapter for it"
            )
    base = find_base(settings.base, SYNTHESIS if embeddings else (*SYNTHESIS, *TEXT))
    weights = base_shapes(base)
    if adapter is not None:
        check_adapter_fits(adapter, base, weights)
    turbo = None
    if settings.turbo is not None:
        turbo = adapter_file(settings.turbo, "--turbo")
        check_adapter_fits(turbo, base, weights, "--turbo", turbo_shapes(turbo))
    texts = dict(zip(header.yaws, header.prompts, strict=True)) if header else standard(yaws)
    side = resolution or (header.resolution[0] if header else BASE_RESOLUTION)
    base.check_resolution(side)
    return SynthesisInputs(
        base=base,
        adapter=adapter,
        embeddings=embeddings,
        turbo=turbo,
        prompts={yaw: texts[yaw] for yaw in yaws},
        resolution=side,
        text_length=header.text_length if header else SPEEDS[settings.speed].text_length,
        reference_kv=header is not None and header.reference_mode == "two-pass",
    )
