"""Training of the yaw LoRA: `check_and_claim` checks everything, `train` runs to the last step."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL

from datapipe.claim import Claim
from datapipe.files import Folder
from lora_engine.flux import prompts
from lora_engine.flux.adapter import AdapterHeader, adapter_file
from lora_engine.flux.adapters import Adapters
from lora_engine.flux.base import file_hash
from lora_engine.flux.groups import (
    Group,
    GroupSettings,
    draw,
    draw_resolution,
    load_group,
    shift_of,
)
from lora_engine.flux.latents import LatentCache, Variety
from lora_engine.flux.learner import LoraLearner, load_transformer
from lora_engine.flux.prompts import PromptEmbeddings
from lora_engine.flux.settings import TrainLoraSettings
from lora_engine.flux.training_inputs import TrainingInputs, training_inputs
from lora_engine.flux.validation import Measure, Validation
from training import parallel
from training.claim import claim_run
from training.device import device_named, free_memory, precision_named
from training.learned import latest_checkpoint
from training.metrics import Metrics
from training.options import stage

CHECKPOINTS = "checkpoints"

Progress = Callable[[int, float], None]
"""Called after each step with the number of steps done and the loss."""


def check_and_claim(settings: TrainLoraSettings, processes: int, *, resume: bool) -> Claim:
    """Check everything and claim the output folder for `train`. Raises UserError."""
    inputs = training_inputs(settings, processes)
    data = {
        "pairs": inputs.pairs.sha256,
        "base": inputs.base.hashes(("transformer", "vae")),
        "prompts": list(inputs.prompts.values()),
        "init": settings.init and file_hash(adapter_file(settings.init, "--init")),
    }
    return claim_run(settings.out, asdict(settings), data, settings.may_change, resume=resume)


def train(
    settings: TrainLoraSettings,
    claim: Claim,
    measure: Measure | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> int:
    """Train to `settings.steps`, from the latest checkpoint in the claimed folder; the steps done.

    It ends sooner, with a checkpoint, after the step at which `stop` says so in any process.
    Run it in one process, or in several with torch.distributed set up. Raises UserError.
    """
    device = device_named(settings.device)
    with parallel.process_group(device):
        inputs = training_inputs(settings, parallel.processes())
        dtype = precision_named(settings.precision, device)
        embeddings = _embeddings(settings, inputs, claim, device, dtype)
        caches = _latents(settings, inputs, device, dtype)
        stage("loading the transformer")
        transformer = load_transformer(settings, inputs.base, device, dtype)
        learner = LoraLearner(settings, transformer, embeddings, dtype)
        validation = None
        if settings.validate_every and measure is not None:
            validation = Validation(settings, inputs, learner, embeddings, measure)
        done = latest_checkpoint(Path(settings.out) / CHECKPOINTS)
        if done:
            learner.weights.load(Path(settings.out) / CHECKPOINTS, done)
        first = done
        with _metrics(settings, done) as metrics:
            for step in range(first, settings.steps):
                start = time.perf_counter()
                record = learner.step(_groups(settings, inputs, caches, step))
                record["seconds"] = time.perf_counter() - start
                if step == first and parallel.rank() == 0:
                    claim.record()
                done = step + 1
                stopped = parallel.sum_over_all(float(stop()), device) > 0
                _after(settings, inputs, learner, validation, metrics, done, record, stopped)
                if progress is not None:
                    progress(done, record["loss"])
                if stopped:
                    break
    return done


def _metrics(settings: TrainLoraSettings, done: int) -> Metrics:
    return Metrics(
        Path(settings.out), done, tensorboard=settings.tensorboard, wandb=settings.wandb,
        project="harmoview-lora",
    )  # fmt: skip


def _after(
    settings: TrainLoraSettings,
    inputs: TrainingInputs,
    learner: LoraLearner,
    validation: Validation | None,
    metrics: Metrics,
    done: int,
    record: dict[str, Any],
    stopped: bool,
) -> None:
    """Do what is due after `done` steps: validation, metrics, adapter and checkpoint."""
    last = done == settings.steps
    save = last or stopped or done % settings.checkpoint_every == 0
    if validated := validation is not None and (last or done % settings.validate_every == 0):
        stage("validating")
        found = validation.run(done)
        record = {**record, "validation": found.figures}
        for name, sheet in found.sheets.items():
            metrics.show(name, sheet, done)
    metrics.write({"step": done, **record})
    if (save or validated) and parallel.rank() == 0:
        header = _header(settings, inputs, done)
        Adapters(Path(settings.out), settings.keep).add(header, learner.export(header))
    if save:
        learner.weights.save(Path(settings.out) / CHECKPOINTS, done)


def _groups(
    settings: TrainLoraSettings, inputs: TrainingInputs, caches: Mapping[int, LatentCache],
    step: int,
) -> list[Group]:  # fmt: skip
    """Load this process's share of a step."""
    how = GroupSettings(
        settings.groups, settings.yaws_per_group, settings.flip, settings.seed, settings.variants
    )
    resolution = draw_resolution(settings.resolution, settings.seed, step)
    side = resolution // inputs.base.multiple
    scheduler = json.loads((inputs.base.path / "scheduler/scheduler_config.json").read_text())
    mu = shift_of(side * side, scheduler)
    draws = [draw(how, inputs.coverage, step, s) for s in parallel.own_share(range(how.groups))]
    return [load_group(caches[resolution], drawn, mu) for drawn in draws]


def _embeddings(
    settings: TrainLoraSettings,
    inputs: TrainingInputs,
    claim: Claim,
    device: torch.device,
    dtype: torch.dtype,
) -> PromptEmbeddings:
    """Load the prompts' embeddings, which the first process makes once and the adapter needs.

    Embeddings that an earlier run left before its first step may be of other settings, so they are
    made again.
    """
    out = Folder(settings.out)
    if parallel.rank() == 0 and not (claim.is_recorded() and out.exists(prompts.FILE)):
        stage("encoding the prompts")
        made = prompts.encode_prompts(
            inputs.base, inputs.prompts, settings.text_length, device, dtype
        )
        prompts.save_prompts(out, made)
    free_memory(device)
    parallel.wait_for_all()
    path = Path(settings.out) / prompts.FILE
    return prompts.load_prompts(path, inputs.prompts, settings.text_length).to(device, dtype)


def _latents(
    settings: TrainLoraSettings, inputs: TrainingInputs, device: torch.device, dtype: torch.dtype
) -> dict[int, LatentCache]:
    """Encode the pictures, each process its share; the VAE is in memory only meanwhile.

    There is a cache for each resolution.
    """
    folder = Folder(settings.out).folder("latents")
    variety = Variety(**{f.name: getattr(settings, f.name) for f in fields(Variety)})
    caches = {
        side: LatentCache(folder, inputs.base, inputs.pairs.sha256, side, settings.flip, variety)
        for side in settings.resolution
    }
    lacking = {key for cache in caches.values() for key in cache.missing(inputs.coverage)}
    share = set(parallel.own_share(sorted(lacking)))
    parallel.wait_for_all()  # nobody encodes while others still list what is missing
    if share:
        stage(f"caching the latents of {len(share):,} subjects")
        autoencoder = AutoencoderKL.from_pretrained(
            inputs.base.path / "vae", dtype=dtype, use_safetensors=True
        ).to(device)
        for subject in inputs.pairs.subjects("train"):
            if subject.key in share:
                for cache in caches.values():
                    cache.fill(autoencoder, [subject])
        del autoencoder
    free_memory(device)
    parallel.wait_for_all()
    return caches


def _header(settings: TrainLoraSettings, inputs: TrainingInputs, done: int) -> AdapterHeader:
    return AdapterHeader(
        base=inputs.base.name,
        rank=settings.rank,
        alpha=settings.lora_alpha,
        targets=settings.targets,
        yaws=settings.yaws,
        prompts=tuple(inputs.prompts[yaw] for yaw in settings.yaws),
        text_length=settings.text_length,
        resolution=settings.resolution,
        reference_mode=settings.reference_mode,
        data=inputs.pairs.sha256,
        steps=done,
        seed=settings.seed,
    )
