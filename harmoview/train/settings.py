"""The settings of a training run; no torch, so that --help is quick."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from datapipe.errors import UserError, check_range
from harmoview.curriculum import PHASES, Phase, ViewDropout, phase_of
from harmoview.model.layout import AbsentViews
from harmoview.trainable import Lora, TrainSet, check_train_set
from training.options import Quantize, Recompute, Schedule

Curriculum = Literal["progressive", "single_view", "multi_view", "no_view_dropout"]
"""The paper's curriculum, and the three with which its Table 2 (d) compares it."""
Experts = Literal["both", "high", "low"]
CHECKPOINTS = "checkpoints"
"""Where a run's checkpoints are, in its folder."""
PHASE_OPTIONS = ("phase", "phases", "steps", "learning_rate", "train_set", "curated",
                 "distribution", "shift", "curriculum")  # fmt: skip
"""Settings of which the phases are made; a resumed run compares the phases themselves."""
MAY_CHANGE = (*PHASE_OPTIONS, "out", "checkpoint_every", "keep", "export_every", "device",
              "loader_workers", "tensorboard", "samples_every", "validate_every", "vit", "no_mfi",
              "verify", "context_parallel", "recompute", "sample_steps", "sample_with",
              "wandb")  # fmt: skip
"""Settings that may change when a run is resumed: what is learned does not depend on them."""


@dataclass(frozen=True)
class TrainSettings:
    """What is trained, on what, and how. Raises ValueError for what does not go together."""

    base: str
    """A Wan pipeline in diffusers' layout: a folder or a hub name."""
    out: Path
    """Folder of checkpoints, metrics and the exported model, on a disk that all workers share."""
    vit: str | None = None
    """The Qwen2.5-VL vision tower, a folder or a hub name. Encoded shards hold its features and
    name it, so it is needed only for packed shards; none is --no-mfi."""
    no_mfi: bool = False
    """Train without MFI, also where the encoded shards hold features for it."""
    init: Path | None = None
    """Start from a model that `harmoview train` exported, its new parts included, not from the
    base's own weights."""
    phase: tuple[str, ...] = ()
    """A phase in JSON, or rather a [[phase]] table in a file of --settings, in the place of the
    default curriculum; see docs/training.md."""
    phases: str | None = None
    """Phases of the curriculum that are trained, like 1-4, 2-3, 4 or 1,3; the default is all."""
    steps: int | None = None
    """Steps of each phase; the default is each phase's own."""
    seed: int = 0
    """Seed of the order of samples, the views shown, noise, noise levels and the LoRA's start."""
    batch: int = 8
    """Samples of a step, over all workers."""
    micro_batch: int = 1
    """Samples of one forward pass; a step's other samples are accumulated, or other workers'."""
    learning_rate: float | None = None
    """Learning rate of all that learns; the default is each phase's own, by kind of weight."""
    schedule: Schedule = "constant"
    """What the learning rate does in a phase after the warm-up: stay, or fall to 0 at its end."""
    warmup: int = 100
    """Steps of each phase over which the learning rate rises."""
    weight_decay: float = 0.01
    """Weight decay of AdamW."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.999
    """Decay of the averaged weights, which are validated and exported; 0 for none."""
    train_set: TrainSet | None = None
    """Which parameters learn: full, lora, new_parts, new_parts_and_lora; the default is each
    phase's own."""
    rank: int = 32
    """Rank of the LoRA."""
    alpha: int | None = None
    """The LoRA's scale is alpha / rank; the default is the rank."""
    experts: Experts = "both"
    """A14B: train both experts, one after the other, or only one. Each learns in its own range of
    noise."""
    distribution: Literal["logit_normal", "uniform"] | None = None
    """Distribution of noise levels before the shift; the default is each phase's own."""
    shift: float | None = None
    """Shift of noise levels in training; the default is each phase's own: 2 up to 480p, growing
    with the root of the tokens for larger videos."""
    curated: float | None = None
    """The share of multi-view samples, the best by their stored scores, that is curated data; the
    default is each phase's own, 0.3."""
    curriculum: Curriculum = "progressive"
    """Ablation (d): what the phases show."""
    absent_views: AbsentViews = "proxy"
    """Ablation (b): what stands in for an absent view."""
    no_jump_rope: bool = False
    """Ablation (c): references and video follow each other without gaps."""
    reference_kv: bool = False
    """Train references that are told time 0 and do not see the video, so that `generate` sends them
    through the model once a video and not at every step."""
    no_identity_embedding: bool = False
    """Leave out the learned vector that tells the MFI tokens of two people apart, as the paper
    does."""
    holdout: float = 0.02
    """Share of the samples that is kept for validation."""
    validation_samples: int = 8
    """Samples that are kept for validation, at most."""
    validate_every: int = 500
    """Steps between validations, which also end every phase; 0 for none."""
    samples_every: int = 0
    """Steps between sample videos; 0 makes none."""
    sample_steps: int = 20
    """Denoising steps of a sample video."""
    sample_with: Path | None = None
    """A14B: a model folder of another run with the expert that is not learning, for the sample
    videos; the default is what this run has exported, or else the base's own."""
    checkpoint_every: int = 500
    """Steps between checkpoints, of which one also ends every phase and a run told to stop."""
    keep: int = 2
    """Checkpoints that stay, the latest ones; `harmoview export` makes a model of any of them."""
    export_every: int = 0
    """Steps between exports of the model, which each take the last one's place and also end every
    phase; 0 for no others."""
    context_parallel: int = 1
    """Workers that share each sample's tokens, for videos that do not fit on one GPU: neighbours in
    one node, as they exchange all of them in every block."""
    quantize: Quantize = "none"
    """Hold Wan's own linear layers in 8 bits (fp8, torchao) or 4 (nf4, bitsandbytes), whole in each
    worker, while a LoRA or the new parts learn."""
    recompute: Recompute | None = None
    """What the backward pass computes a second time, to save memory: all, all_but_attention or
    none; the default is the least that fits by the plan, and none on a CPU. The numbers stay."""
    precision: Literal["bfloat16", "float32"] | None = None
    """Precision of the computation; weights that learn are float32. The default is bfloat16 on a
    GPU."""
    device: Literal["cuda", "cpu"] | None = None
    """The device; the default is a GPU where there is one."""
    loader_workers: int = 2
    """Processes of each worker that read data; 0 reads in the trainer's own."""
    verify: bool = False
    """Read every shard once before the run, to compare its hash; the checksum of each sample is
    compared whenever it is read."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too, into the folder tensorboard."""
    wandb: bool = False
    """Send the metrics to Weights & Biases too."""

    def __post_init__(self) -> None:
        positive = (
            "batch",
            "micro_batch",
            "rank",
            "alpha",
            "checkpoint_every",
            "keep",
            "sample_steps",
            "steps",
            "context_parallel",
        )
        check_range(self, *positive, least=1)
        not_negative = ("warmup", "weight_decay", "loader_workers", "validate_every",
                        "samples_every", "validation_samples", "export_every")  # fmt: skip
        check_range(self, *not_negative, least=0)
        check_range(self, "ema", "holdout", least=0, under=1)
        check_range(self, "clip", "learning_rate", "shift", above=0)
        check_range(self, "curated", above=0, most=1)
        if self.batch % self.micro_batch:
            raise ValueError(
                f"--batch {self.batch} must be a multiple of --micro-batch {self.micro_batch}"
            )
        if self.reference_kv and self.absent_views == "sequential":
            raise ValueError("--reference-kv and --absent-views sequential exclude each other")
        if self.train_set is not None:
            check_train_set(self.train_set)
        sets = {phase.train_set == "full" for _, phase in self.curriculum_phases()}
        if len(sets) > 1:
            raise ValueError("phases that train everything and phases with a LoRA do not mix")
        if self.quantize != "none" and True in sets:
            raise ValueError(
                f"--quantize {self.quantize} is for a LoRA or the new parts (--train-set): weights "
                "in fewer bits cannot learn"
            )

    @property
    def without_mfi(self) -> bool:
        """Whether the model is to have no MFI, whatever the shards hold."""
        return self.no_mfi or self.vit == "none"

    @property
    def micro_batches(self) -> int:
        """Micro-batches of a step, over all workers."""
        return self.batch // self.micro_batch

    def check_workers(self, workers: int) -> None:
        """Raises UserError where a step cannot be shared out among so many workers."""
        together = self.context_parallel
        if workers % together:
            raise UserError(f"--context-parallel {together} does not divide {workers} workers")
        if self.micro_batches % (workers // together):
            raise UserError(
                f"--batch {self.batch} in pieces of --micro-batch {self.micro_batch} does not "
                f"divide among {workers} workers"
            )

    def curriculum_phases(self) -> list[tuple[int, Phase]]:
        """Return the phases of the run with their numbers, settings applied.

        Raises ValueError where --curriculum or --phases does not go with the run's own phases.
        """
        if self.phase and self.curriculum != "progressive":
            raise ValueError(f"--curriculum {self.curriculum} changes the default phases only")
        own = [_own_phase(number, text) for number, text in enumerate(self.phase, 1)]
        phases = own or variant(PHASES, self.curriculum)
        numbers = selected(self.phases, len(phases))
        return [(number, self._applied(phases[number - 1])) for number in numbers]

    def folders(self, shards: str) -> list[str]:
        """Return the folders of all phases, the command's SHARDS first."""
        own = [one.path for _, phase in self.curriculum_phases() for one in phase.shards]
        return list(dict.fromkeys([shards, *own]))

    def _applied(self, phase: Phase) -> Phase:
        """Return a phase with what is asked for of all of them."""
        rate = self.learning_rate
        noise = phase.noise
        return replace(
            phase,
            steps=phase.steps if self.steps is None else self.steps,
            learning_rate=rate or phase.learning_rate,
            lora_learning_rate=rate or phase.lora_learning_rate,
            new_parts_learning_rate=rate or phase.new_parts_learning_rate,
            train_set=self.train_set or phase.train_set,
            curated=self.curated or phase.curated,
            noise=replace(
                noise,
                distribution=self.distribution or noise.distribution,
                shift=self.shift or noise.shift,
            ),
        )

    @property
    def lora(self) -> Lora:
        """The adapter, for phases that train one."""
        return Lora(self.rank, self.alpha or self.rank, self.seed)

    def model_settings(self) -> dict[str, Any]:
        """Return those settings of the model that are chosen here."""
        apart = {"reference_attention": "references", "reference_timestep": "zero"}
        return {
            "absent_views": self.absent_views,
            "jump_rope": not self.no_jump_rope,
            **(apart if self.reference_kv else {}),
            "identity_embedding": not self.no_identity_embedding,
        }


def selected(text: str | None, count: int) -> list[int]:
    """Read the phases, of `count`, of a text like 1-4 or 1,3, ascending; None is all of them.

    Raises ValueError for another text.
    """
    found: set[int] = set()
    for part in (f"1-{count}" if text is None else text).split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= count:
            raise ValueError(
                f"--phases takes numbers 1..{count}, like 1-{count} or 1, not {text!r}"
            )
        found.update(range(first, last + 1))
    return sorted(found)


def _own_phase(number: int, text: str) -> Phase:
    """Make a phase of its table in JSON. Raises ValueError with its number."""
    try:
        table = json.loads(text)
        if not isinstance(table, dict):
            raise ValueError(f"it is a table, not {text}")
        return phase_of(table)
    except ValueError as wrong:
        raise ValueError(f"phase {number}: {wrong}") from wrong


def variant(phases: Sequence[Phase], curriculum: Curriculum) -> list[Phase]:
    """Return the phases of an ablation of Table 2 (d), with the steps of the paper's."""
    everything = ViewDropout({7: 1.0})
    if curriculum == "single_view":
        return [replace(p, data="single_view", views=phases[0].views) for p in phases]
    if curriculum == "multi_view":
        return [replace(phases[0], data="multi_view", views=phases[1].views), *phases[1:]]
    if curriculum == "no_view_dropout":
        return [phases[0], *(replace(p, views=everything) for p in phases[1:])]
    return list(phases)
