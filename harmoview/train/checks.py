"""Before training: checking what can be checked, and claiming the output folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from datapipe.claim import Claim
from datapipe.errors import UserError
from harmoview.checkpoint import CONFIG, is_trained
from harmoview.data.encoded import EncodedShards
from harmoview.encode.encoder import base_recipe, expert_names
from harmoview.encode.manifest import NAME
from harmoview.load import boundary_of, load_frontal_encoder
from harmoview.model.weights import wan_config
from harmoview.train.build import init_folder
from harmoview.train.expert_phase import expert_phases
from harmoview.train.plan import groups_of
from harmoview.train.settings import CHECKPOINTS, MAY_CHANGE, TrainSettings
from training.claim import RUN, claim_run
from training.learned import checkpoints
from training.metrics import check_trackers
from training.quantize import check_quantize

LATER = ("steps", "learning_rate", "lora_learning_rate", "new_parts_learning_rate")
"""What of a phase that has not begun may change when a run is resumed."""


def check_and_claim(settings: TrainSettings, shards: str, workers: int, *, resume: bool) -> Claim:
    """Check what can be checked and claim the output folder for `train`. Raises UserError."""
    data = EncodedShards(*settings.folders(shards))
    data.check_sizes()
    check(settings, data, workers)
    _check_tower(settings, data)
    inputs = {
        "shards": " ".join(hashlib.sha256(one.read(NAME)).hexdigest() for one in data.folders),
        "mfi": has_mfi(settings, data),
    }
    phases = {f"phase {number}": asdict(one) for number, one in settings.curriculum_phases()}
    there = {**inputs, **_as_recorded(settings, phases)}
    claim = claim_run(settings.out, asdict(settings), there, MAY_CHANGE, resume=resume)
    return replace(claim, inputs={**inputs, **phases})


def _as_recorded(settings: TrainSettings, phases: Mapping[str, Any]) -> dict[str, Any]:
    """Return the phases as the folder must have them on record for the run to go on.

    Those that have not begun may have other lengths and rates, and be more or fewer than they were.
    """
    try:
        record = json.loads((settings.out / RUN).read_text())["inputs"]
    except (OSError, ValueError, KeyError, TypeError):  # none yet; a damaged one is the claim's
        return dict(phases)
    names = [name for name in record if name.startswith("phase ")]
    experts = {part.expert for part in expert_phases(settings, boundary_of(settings.base))}
    done, first = max(checkpoints(settings.out / CHECKPOINTS), default=1), 0
    begun: set[str] = set()
    for name in names * len(experts):
        if first < done:
            begun.add(name)
        first += record[name]["steps"]
    found = {}
    for name in sorted({*names, *phases}):
        if name in names and name not in begun:
            kept = {part: record[name][part] for part in LATER}
            found[name] = {**phases.get(name, record[name]), **kept}
        elif name in phases and name <= max(begun, default=""):
            found[name] = phases[name]
    return found


def check(settings: TrainSettings, data: EncodedShards, workers: int) -> None:
    """Check settings, data and the number of workers. Raises UserError where they do not fit."""
    base_recipe(settings.base)
    if settings.vit not in (None, "none") and not data.manifest.settings.features:
        raise UserError(
            f"{data.folder.url} was encoded without --vit: encode again with it, or train without "
            "--vit, which leaves MFI out"
        )
    if not settings.without_mfi:
        _check_features(data)
    latents, base = len(data.example.video), wan_config(settings.base, "transformer")["in_channels"]
    if latents != base:
        raise UserError(
            f"{data.folder.url} was encoded with another base than {settings.base}: its latents "
            f"have {latents} channels, not {base}; encode again with --base {settings.base}"
        )
    settings.check_workers(workers)
    _check_sharing(settings, data)
    if len(expert_names(settings.base)) == 1 and settings.experts != "both":
        raise UserError(f"--experts {settings.experts}: this base has only one")
    init_folder(settings, "transformer")
    if settings.sample_with is not None:
        _check_sample_with(settings, data, settings.sample_with)
    check_quantize(settings.quantize, torch.device(settings.device or "cpu"))
    check_trackers(tensorboard=settings.tensorboard, wandb=settings.wandb)


def _check_sharing(settings: TrainSettings, data: EncodedShards) -> None:
    """Raises UserError where --context-parallel cannot cut heads or a sequence."""
    count = settings.context_parallel
    if count == 1:
        return
    said = f"--context-parallel {count}"
    heads = wan_config(settings.base, "transformer")["num_attention_heads"]
    if heads % count:
        raise UserError(f"{said} does not divide the {heads} heads of {settings.base}")
    if settings.absent_views == "sequential":
        raise UserError(
            f"{said}: with --absent-views sequential each sample has a length of its own, which "
            "cannot be cut evenly"
        )
    views = data.example.present.shape[1]
    for group in groups_of(settings, data):
        video = group.shape.video_tokens
        references = group.shape.reference_tokens(views)
        lengths = [video + references]
        # sample videos are held to what `generate` is (`HarmoViewPipeline.check_size`)
        if settings.reference_kv or settings.samples_every:
            lengths += [video, references // group.people]
        for tokens in lengths:
            if tokens % count:
                raise UserError(f"{said} does not divide the {tokens:,} tokens of {group}")


def _check_features(data: EncodedShards) -> None:
    """Raises UserError where some folders hold features and others do not."""
    pairs = list(zip(data.folders, data.manifests, strict=True))
    with_features = [folder.url for folder, manifest in pairs if manifest.settings.features]
    without = [folder.url for folder, manifest in pairs if not manifest.settings.features]
    if with_features and without:
        raise UserError(
            f"{without[0]} was encoded without --vit, {with_features[0]} with it: encode the "
            "former again, or train with --no-mfi"
        )


def has_mfi(settings: TrainSettings, data: EncodedShards) -> bool:
    """Whether the model has Multi-level Feature Injection: where the shards hold its features."""
    features = all(manifest.settings.features for manifest in data.manifests)
    return features and not settings.without_mfi


def _check_tower(settings: TrainSettings, data: EncodedShards) -> None:
    """Check that the features are of --vit, which is loaded only if it has another name now."""
    encoded = data.manifest.settings
    if settings.vit is None or not has_mfi(settings, data) or settings.vit == encoded.vit:
        return
    named = load_frontal_encoder(settings.vit, encoded.vit_layer, encoded.vit_size)
    if named.fingerprint != data.manifest.tower:
        raise UserError(
            f"--vit {settings.vit} is another vision tower than {encoded.vit}, with which "
            f"{data.folder.url} was encoded; give that one, or encode again"
        )


def _check_sample_with(settings: TrainSettings, data: EncodedShards, folder: Path) -> None:
    if len(expert_names(settings.base)) == 1:
        raise UserError("--sample-with: this base has only one expert")
    trained = [name for name in expert_names(settings.base) if is_trained(folder, name)]
    for name in trained:
        tower = json.loads((folder / name / CONFIG).read_text()).get("vit_tower")
        if has_mfi(settings, data) and tower not in (None, data.manifest.tower):
            raise UserError(
                f"--sample-with {folder}: its {name} was trained with another vision tower than "
                f"{data.folder.url} was encoded with"
            )
    if not trained:
        raise UserError(
            f"--sample-with {folder}: holds no trained expert; give the model folder of a run, or "
            "leave it out for the base's own"
        )


def total_steps(settings: TrainSettings) -> int:
    """Count the steps of the whole run."""
    return expert_phases(settings, boundary_of(settings.base))[-1].last
