"""The settings of a training run; no torch, so that --help is quick."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from harmoview.curriculum import PHASES, Phase, ViewDropout
from harmoview.model.layout import AbsentViews
from harmoview.trainable import TrainSet, check_train_set

Curriculum = Literal["progressive", "single_view", "multi_view", "no_view_dropout"]
"""The paper's, and the three that its Table 2 (d) compares with."""
Experts = Literal["both", "high", "low"]
Schedule = Literal["constant_with_warmup", "cosine", "linear"]
MAY_CHANGE = ("out", "checkpoint_every", "device", "loader_workers", "tensorboard", "samples_every",
              "validate_every", "skip_hash_check", "sample_steps", "sample_with",
              "wandb")  # fmt: skip
"""Settings that a resumed run may have others of: they do not change what is learned."""
NOT_NEGATIVE = ("warmup", "weight_decay", "loader_workers", "validate_every", "samples_every",
                "validation_samples")  # fmt: skip
_RANGES = {
    "steps": "--steps must be at least 1",
    "clip": "--clip must be positive",
    "curated": "--curated must be in 0..1 without 0",
    "micro-batch": "--batch must be a multiple of --micro-batch",
}


@dataclass(frozen=True)
class TrainSettings:
    """What is trained, on what, and how."""

    base: str
    """A Wan pipeline in diffusers' layout: a folder or a hub name."""
    out: Path
    """Folder of checkpoints, metrics and the exported model, on a disk that all workers share."""
    vit: str = "none"
    """The Qwen2.5-VL vision tower; none trains without MFI. Encoded shards hold its features, so
    that it is loaded only to encode."""
    phases: str = "1-4"
    """Which phases of the curriculum: 1-4, 2-3, 4 or 1,3."""
    steps: int | None = None
    """Of each phase; the default is each phase's own."""
    seed: int = 0
    """Of the order of samples, the views shown, noise, noise levels and the LoRA's start."""
    batch: int = 8
    """Samples of a step, over all workers."""
    micro_batch: int = 1
    """Samples of one forward pass; the others of a step are accumulated or other workers'."""
    learning_rate: float | None = None
    """The default is each phase's own."""
    schedule: Schedule = "constant_with_warmup"
    """Of the learning rate within a phase."""
    warmup: int = 100
    """Steps of each phase over which the learning rate rises."""
    weight_decay: float = 0.01
    """Of AdamW."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.999
    """Decay of the averaged weights, which are validated and exported; 0 for none."""
    train_set: TrainSet | None = None
    """Which parameters learn: full, lora, new_parts, new_parts_and_lora; the default is each
    phase's own."""
    rank: int = 32
    """Of the LoRA."""
    experts: Experts = "both"
    """Of A14B: both, one after the other, or one. Each learns inside its own noise range."""
    distribution: Literal["logit_normal", "uniform"] = "logit_normal"
    """Of noise levels, before the shift."""
    shift: float | None = None
    """Of noise levels; the default is the one that the base is sampled with."""
    curated: float = 0.3
    """The share of multi-view samples, by their stored scores, that phase 4 trains on."""
    curriculum: Curriculum = "progressive"
    """Ablation (d): what the phases show."""
    absent_views: AbsentViews = "proxy"
    """Ablation (b): what stands in for an absent view."""
    no_jump_rope: bool = False
    """Ablation (c): references and video follow each other without gaps."""
    holdout: float = 0.02
    """Share of samples kept for validation."""
    validation_samples: int = 8
    """The most samples kept for validation."""
    validate_every: int = 500
    """Steps; 0 never. Also at the end of a phase."""
    samples_every: int = 0
    """Steps between sample videos; 0 makes none."""
    sample_steps: int = 20
    """Denoising steps of a sample video."""
    sample_with: Path | None = None
    """A14B: a model folder of another run with the expert that is not learning, for the sample
    videos; the default is what this run has exported, or else the base's own."""
    checkpoint_every: int = 500
    """Steps. Also at the end of a phase, and when the run is told to stop."""
    gradient_checkpointing: bool | None = None
    """Recompute activations in the backward pass; the default is to, on a GPU."""
    precision: Literal["bfloat16", "float32"] | None = None
    """Of the computation; weights that learn are float32. The default is bfloat16 on a GPU."""
    device: Literal["cuda", "cpu"] | None = None
    """The default is a GPU where there is one."""
    loader_workers: int = 2
    """Processes a worker that read data; 0 reads in the trainer's own."""
    skip_hash_check: bool = False
    """Do not read every shard once to compare its hash; each sample's own is always compared."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too, into the folder tensorboard."""
    wandb: bool = False
    """Send the metrics to Weights & Biases too."""

    def __post_init__(self) -> None:
        selected(self.phases)
        _check_numbers(self)
        if self.train_set is not None:
            check_train_set(self.train_set)
        sets = {phase.train == "full" for _, phase in self.curriculum_phases()}
        if len(sets) > 1:
            raise ValueError("phases that train everything and phases with a LoRA do not mix")

    @property
    def mfi(self) -> bool:
        return self.vit != "none"

    @property
    def micro_batches(self) -> int:
        """Of a step, over all workers."""
        return self.batch // self.micro_batch

    def curriculum_phases(self) -> list[tuple[int, Phase]]:
        """The phases of the run with their numbers, settings applied."""
        phases = variant(PHASES, self.curriculum)
        return [(number, self._applied(phases[number - 1])) for number in selected(self.phases)]

    def _applied(self, phase: Phase) -> Phase:
        return replace(
            phase,
            steps=phase.steps if self.steps is None else self.steps,
            learning_rate=self.learning_rate or phase.learning_rate,
            train=self.train_set or phase.train,
        )

    def model_settings(self) -> dict[str, Any]:
        """The model's own settings that are chosen here."""
        return {"absent_views": self.absent_views, "jump_rope": not self.no_jump_rope}


def _check_numbers(settings: TrainSettings) -> None:
    """Raises ValueError for one out of its range."""
    for name in ("batch", "micro_batch", "rank", "checkpoint_every", "sample_steps"):
        if getattr(settings, name) < 1:
            raise ValueError(f"--{_option(name)} must be at least 1, got {getattr(settings, name)}")
    for name in NOT_NEGATIVE:
        if getattr(settings, name) < 0:
            raise ValueError(f"--{_option(name)} cannot be negative: {getattr(settings, name)}")
    for name in ("ema", "holdout"):
        if not 0 <= getattr(settings, name) < 1:
            raise ValueError(f"--{name} must be in 0..1 without 1, got {getattr(settings, name)}")
    for name, fits in (
        ("steps", settings.steps is None or settings.steps >= 1),
        ("clip", settings.clip > 0),
        ("curated", 0 < settings.curated <= 1),
        ("micro-batch", settings.batch % settings.micro_batch == 0),
    ):
        if not fits:
            raise ValueError(_RANGES[name])


def selected(text: str) -> list[int]:
    """The phases that a text like 1-4 or 1,3 names, ascending. Raises ValueError."""
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"([1-4])(?:-([1-4]))?", part.strip())
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ValueError(f"--phases takes numbers 1..4, like 1-4 or 1,3, not {text!r}")
        found.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return sorted(found)


def variant(phases: Sequence[Phase], curriculum: Curriculum) -> list[Phase]:
    """The phases as an ablation of Table 2 (d) has them, with the same steps."""
    everything = ViewDropout({7: 1.0})
    if curriculum == "single_view":
        return [replace(p, data="single_view", views=phases[0].views) for p in phases]
    if curriculum == "multi_view":
        return [replace(phases[0], data="multi_view", views=phases[1].views), *phases[1:]]
    if curriculum == "no_view_dropout":
        return [phases[0], *(replace(p, views=everything) for p in phases[1:])]
    return list(phases)


def _option(name: str) -> str:
    return name.replace("_", "-")
