"""Training of the yaw LoRA: `begin` claims the output folder, `train` runs to the last step."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from diffusers import AutoencoderKL

from datapipe.errors import UserError
from datapipe.files import Folder
from lora_engine.flux import prompts
from lora_engine.flux.adapter import AdapterHeader
from lora_engine.flux.groups import Group, GroupSettings, draw, load_group, shift_of
from lora_engine.flux.latents import LatentCache
from lora_engine.flux.learner import Learner, load_transformer
from lora_engine.flux.prompts import PromptEmbeddings
from lora_engine.flux.settings import Inputs, TrainSettings, check
from lora_engine.flux.state import checkpoints
from lora_engine.flux.validation import Measure, Trial
from training import parallel
from training.device import device_named, forget, precision_named
from training.metrics import Metrics

RUN = "run.json"

Progress = Callable[[int, float], None]
"""Called after each step with the steps done and the loss."""


def begin(settings: TrainSettings, processes: int, resume: bool) -> Inputs:
    """Check everything and write run.json. Raises UserError, also for a folder in use."""
    inputs = check(settings, processes)
    folder = Folder(settings.out)
    about = {
        "trajectory": settings.trajectory(),
        "pairs": inputs.pairs.sha256,
        "base": inputs.base.hashes(("transformer", "vae")),
    }
    if folder.exists(RUN):
        if not resume:
            raise UserError(
                f"--out {settings.out}: holds a training run; pass --resume to continue it, "
                "or name another folder"
            )
        _check_same(settings, json.loads(folder.read_text(RUN)), about)
    libraries = {name: version(name) for name in ("diffusers", "peft", "torch")}
    record = {**about, "base_name": inputs.base.name, "versions": libraries}
    try:
        folder.put(RUN, json.dumps(record, indent=1).encode())
    except OSError as wrong:
        raise UserError(f"--out {settings.out}: cannot be written ({wrong.strerror})") from wrong
    return inputs


def _check_same(settings: TrainSettings, before: dict[str, Any], now: dict[str, Any]) -> None:
    now = json.loads(json.dumps(now))
    old, new = before["trajectory"], now["trajectory"]
    changed = [f"--{name.replace('_', '-')}" for name in new if old.get(name) != new[name]]
    changed += [f"the {name}" for name in ("pairs", "base") if before[name] != now[name]]
    if changed:
        raise UserError(
            f"--resume: the run in {settings.out} began with another value of "
            f"{', '.join(changed)}; use the same, or start in another folder"
        )


def train(
    settings: TrainSettings, measure: Measure | None = None, progress: Progress | None = None
) -> None:
    """Train to `settings.steps`, from the latest checkpoint in the folder that `begin` claimed.

    Run it in one process, or in several with torch.distributed set up. Raises UserError.
    """
    inputs = check(settings, parallel.processes())
    device = device_named(settings.device)
    dtype = precision_named(settings.precision, device)
    out = Folder(settings.out)
    embeddings = _embeddings(settings, inputs, out, device, dtype)
    cache = _latents(settings, inputs, out, device, dtype)
    transformer = load_transformer(settings, inputs.base, device, dtype)
    learner = Learner(settings, transformer, embeddings, dtype)
    trial = None
    if settings.validate_every and measure is not None:
        trial = Trial(settings, inputs, learner, embeddings, measure)
    done = max(checkpoints(out.folder("checkpoints")), default=0)
    if done:
        learner.load(out.folder("checkpoints"), done)
    metrics = None
    if parallel.rank() == 0:
        local = out.local
        assert local is not None  # check() has seen to it
        metrics = Metrics(local, done, settings.tensorboard, settings.wandb)
    for step in range(done, settings.steps):
        start = time.perf_counter()
        record = learner.step(_groups(settings, inputs, cache, step), step)
        record["seconds"] = time.perf_counter() - start
        _after(settings, inputs, learner, trial, metrics, step + 1, record)
        if progress is not None:
            progress(step + 1, record["loss"])
    if metrics is not None:
        metrics.close()


def _after(
    settings: TrainSettings,
    inputs: Inputs,
    learner: Learner,
    trial: Trial | None,
    metrics: Metrics | None,
    done: int,
    record: dict[str, Any],
) -> None:
    """What is due after `done` steps: validation, metrics, checkpoint and adapter."""
    last = done == settings.steps
    if trial is not None and (last or done % settings.validate_every == 0):
        record = {**record, "validation": trial.run(done)}
    if metrics is not None:
        metrics.write({"step": done, **record})
        if last or done % settings.checkpoint_every == 0:
            out = Folder(settings.out)
            learner.export(out, _header(settings, inputs, done))
            learner.save(out.folder("checkpoints"), done)
    parallel.wait_for_all()


def _groups(settings: TrainSettings, inputs: Inputs, cache: LatentCache, step: int) -> list[Group]:
    """This process's share of a step."""
    how = GroupSettings(settings.groups, settings.yaws_per_group, settings.flip, settings.seed)
    side = settings.resolution // inputs.base.multiple
    scheduler = json.loads((inputs.base.path / "scheduler/scheduler_config.json").read_text())
    mu = shift_of(side * side, scheduler)
    slots = parallel.own(range(settings.groups))
    return [load_group(cache, draw(how, inputs.coverage, step, slot), mu) for slot in slots]


def _embeddings(
    settings: TrainSettings,
    inputs: Inputs,
    out: Folder,
    device: torch.device,
    dtype: torch.dtype,
) -> PromptEmbeddings:
    """Made once by the first process, and shipped with the adapter; then the encoders are gone."""
    if parallel.rank() == 0 and not out.exists(prompts.FILE):
        made = prompts.encode_prompts(
            inputs.base, settings.yaws, settings.text_length, device, dtype
        )
        prompts.save_prompts(out, made)
    forget(device)
    parallel.wait_for_all()
    local = out.local
    assert local is not None  # check() has seen to it
    found = prompts.load_prompts(local / prompts.FILE, settings.yaws, settings.text_length)
    return found.to(device, dtype)


def _latents(
    settings: TrainSettings,
    inputs: Inputs,
    out: Folder,
    device: torch.device,
    dtype: torch.dtype,
) -> LatentCache:
    """Every process encodes its share; then the VAE is gone."""
    cache = LatentCache(
        out.folder("latents"), inputs.base, inputs.pairs.sha256, settings.resolution, settings.flip
    )
    share = set(parallel.own(cache.missing(inputs.coverage)))
    parallel.wait_for_all()  # nobody encodes while others still look what is missing
    if share:
        autoencoder = AutoencoderKL.from_pretrained(
            inputs.base.path / "vae", dtype=dtype, use_safetensors=True
        ).to(device)
        people = (one for one in inputs.pairs.subjects("train") if one.key in share)
        cache.fill(autoencoder, people)
        del autoencoder
    forget(device)
    parallel.wait_for_all()
    return cache


def _header(settings: TrainSettings, inputs: Inputs, done: int) -> AdapterHeader:
    return AdapterHeader(
        base=inputs.base.name,
        rank=settings.rank,
        alpha=settings.lora_alpha,
        targets=settings.targets,
        yaws=settings.yaws,
        prompts=tuple(prompts.prompt(yaw) for yaw in settings.yaws),
        text_length=settings.text_length,
        resolution=settings.resolution,
        reference_mode=settings.reference_mode,
        data=inputs.pairs.sha256,
        steps=done,
        seed=settings.seed,
    )
