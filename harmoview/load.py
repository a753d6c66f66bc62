"""A ready pipeline from a Wan base, a checkpoint and the vision tower."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan

from datapipe.errors import UserError
from harmoview.checkpoint import is_trained, load_expert
from harmoview.model.injection import FrontalEncoder
from harmoview.model.weights import HOW_TO_GET, is_hub_name, load_wan, unreadable
from harmoview.pipeline import HarmoViewPipeline
from harmoview.recipes import Recipe, recipe_of

BASE_FILES = (
    "model_index.json",
    "vae/config.json",
    "text_encoder/config.json",
    "tokenizer/tokenizer_config.json",
    "scheduler/scheduler_config.json",
)
VIT_HOW_TO_GET = (
    "Fetch it with `hf download Qwen/Qwen2.5-VL-7B-Instruct --local-dir DIR`, or give the "
    "repository's name itself."
)


@dataclass(frozen=True)
class Loaded:
    """A pipeline, and how the makers of its base sample from it."""

    pipeline: HarmoViewPipeline
    recipe: Recipe
    untrained: tuple[str, ...] = ()
    """Experts that the checkpoint lacks; the base's own take their place and see no references."""


def load_pipeline(
    base: str | Path,
    checkpoint: str | Path,
    vit: str | Path | None = None,
    dtype: torch.dtype = torch.bfloat16,
) -> Loaded:
    """Load a pipeline onto the CPU. The VAE stays in float32, which its decoder needs.

    `base` and `vit` are folders or hub names; `vit` None is the one that a model with MFI names.
    Raises UserError, naming what was looked for, where something is missing or does not fit.
    """
    base, checkpoint = str(base), Path(checkpoint)
    check_base(base)
    _check_kind(base)
    experts = ["transformer"] if boundary_of(base) is None else ["transformer", "transformer_2"]
    trained = [name for name in experts if is_trained(checkpoint, name)] or experts[:1]
    own = {name: load_expert(checkpoint, base, name, dtype) for name in trained}
    config = own[trained[0]].config
    untrained = tuple(name for name in experts if name not in own)
    models = {**own, **{name: load_wan(base, name, dtype) for name in untrained}}
    encoder = None
    if config.vit_dim is not None:
        vit, encoder = _load_tower(config, None if vit is None else str(vit), dtype)
        if encoder.dim != config.vit_dim:
            raise UserError(
                f"--vit {vit} gives {encoder.dim} numbers a token, the checkpoint was trained "
                f"with {config.vit_dim}: it is another vision tower."
            )
        for tower in (own[name].config.vit_tower for name in trained):
            if tower not in (None, encoder.fingerprint):
                raise UserError(
                    f"--vit {vit} is another vision tower than the one that {checkpoint} was "
                    f"trained with: its fingerprint is {encoder.fingerprint}, not {tower}"
                )
    vae = AutoencoderKLWan.from_pretrained(base, subfolder="vae", dtype=torch.float32)
    if vae.config.z_dim != config.in_channels:
        raise UserError(
            f"{checkpoint} works on latents of {config.in_channels} channels, the VAE of {base} "
            f"makes {vae.config.z_dim}: give the base that it was trained on"
        )
    pipeline = HarmoViewPipeline.from_pretrained(base, vae=vae, dtype=dtype, **models)
    pipeline.frontal_encoder = encoder
    return Loaded(pipeline, recipe_of(config.in_channels, len(experts)), untrained)


def _load_tower(config: Any, vit: str | None, dtype: torch.dtype) -> tuple[str, FrontalEncoder]:
    """Load the tower `vit`, or else the one that a model's config names. Raises UserError."""
    named = vit or config.vit_name
    if named is None:
        raise UserError(
            "The checkpoint was trained with MFI and needs the vision tower: give --vit. "
            + VIT_HOW_TO_GET
        )
    try:
        return named, load_frontal_encoder(named, config.vit_layer, config.vit_size, dtype)
    except UserError as wrong:
        if vit is not None:
            raise
        raise UserError(
            f"The checkpoint was trained with the vision tower {named}, which is not to be had "
            f"under this name here: give --vit ({wrong})"
        ) from wrong


def add_loras(pipeline: HarmoViewPipeline, name: str, files: Sequence[str]) -> None:
    """Load LoRA files of Wan into the transformer `name`, beside the adapters that it has.

    FILE@0.5 takes a file at half its strength. Raises UserError where a file holds none.
    """
    from safetensors import SafetensorError

    model = getattr(pipeline, name)
    strengths = {adapter: 1.0 for adapter in getattr(model, "peft_config", {})}
    for number, given in enumerate(files):
        adapter = f"added-{number}"
        file, strengths[adapter] = _strength(given)
        if not is_hub_name(file) and not Path(file).exists():
            raise UserError(f"{file} cannot be loaded as a LoRA of Wan: there is no such file")
        try:
            pipeline.load_lora_weights(
                file, adapter_name=adapter, load_into_transformer_2=name == "transformer_2"
            )
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as wrong:
            # torch names the first layer of another size on its second line
            reason = " ".join(line.strip() for line in str(wrong).splitlines()[:2])
            raise UserError(f"{file} cannot be loaded as a LoRA of Wan: {reason}") from wrong
        if adapter not in getattr(model, "peft_config", {}):
            raise UserError(f"{file} holds no LoRA of a Wan transformer")
    if files:  # otherwise only the last one would be in use
        model.set_adapters(list(strengths), list(strengths.values()))


def _strength(given: str) -> tuple[str, float]:
    """Part FILE@STRENGTH; 1 where there is none. Raises UserError for one that is not finite."""
    file, _, strength = given.rpartition("@")
    try:
        number = float(strength) if file else 1.0
    except ValueError:  # the @ belongs to the name
        return given, 1.0
    if not math.isfinite(number):
        raise UserError(f"{given}: the strength after @ must be a finite number, not {strength}")
    return file or given, number


def load_frontal_encoder(
    vit: str, layer: int, size: int, dtype: torch.dtype | None = None
) -> FrontalEncoder:
    """Load the vision tower of a Qwen2.5-VL checkpoint, or one that was saved alone.

    Raises UserError where there is none, or it has no such layer.
    """
    from transformers import AutoConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
        Qwen2_5_VisionTransformerPretrainedModel,
    )
    from transformers.utils import logging

    if not is_hub_name(vit) and not (Path(vit) / "config.json").is_file():
        raise UserError(
            f"There is no vision tower in {vit}: looked for config.json. {VIT_HOW_TO_GET}"
        )
    try:
        kind = AutoConfig.from_pretrained(vit).model_type
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--vit {vit}: there is no such folder, and no such repository could be read "
            f"({reason}) {VIT_HOW_TO_GET}"
        ) from error
    if not kind.startswith("qwen2_5_vl"):
        raise UserError(f"--vit {vit} is a {kind}, not a Qwen2.5-VL. {VIT_HOW_TO_GET}")
    # in a full checkpoint the tower's names begin with visual., in newer ones with model.visual.
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it would list the whole language model as unexpected
    try:
        tower, report = Qwen2_5_VisionTransformerPretrainedModel.from_pretrained(
            vit,
            dtype=dtype,
            key_mapping={r"^(model\.)?visual\.": ""},
            output_loading_info=True,
        )
    finally:
        logging.set_verbosity(verbosity)
    if report["missing_keys"]:
        raise UserError(
            f"--vit {vit} lacks weights of the vision tower: "
            f"{', '.join(sorted(report['missing_keys'])[:3])}, … {VIT_HOW_TO_GET}"
        )
    try:
        return FrontalEncoder(tower, layer, size)
    except ValueError as wrong:
        raise UserError(
            f"--vit {vit}: {wrong}; see --vit-layer and --vit-size of `harmoview encode`"
        ) from wrong


def check_base(base: str) -> None:
    """Check a local base. Raises UserError, naming the files that it lacks."""
    if is_hub_name(base):
        return
    missing = [name for name in BASE_FILES if not (Path(base) / name).is_file()]
    if missing:
        raise UserError(
            f"--base {base} is not a Wan pipeline in diffusers' layout: "
            f"there is no {', '.join(missing)}. {HOW_TO_GET}"
        )


def _check_kind(base: str) -> None:
    """Raises UserError where a base is another pipeline than text-to-video Wan."""
    kind = pipeline_index(base).get("_class_name", "WanPipeline")
    if kind not in ("WanPipeline", HarmoViewPipeline.__name__):
        raise UserError(f"--base {base} is a {kind}, not a text-to-video Wan. {HOW_TO_GET}")


def boundary_of(base: str) -> float | None:
    """Return the noise level between the base's two experts, 0..1; None where it has one model.

    Raises UserError as `pipeline_index` does.
    """
    found: float | None = pipeline_index(base).get("boundary_ratio")
    return found


def pipeline_index(base: str) -> dict[str, Any]:
    """Read the base's model_index.json. Raises UserError where a hub name cannot be read."""
    if not is_hub_name(base):
        index: dict[str, Any] = json.loads((Path(base) / "model_index.json").read_text())
        return index
    try:
        return dict(HarmoViewPipeline.load_config(base))
    except OSError as error:
        raise unreadable(f"--base {base}", error) from error
