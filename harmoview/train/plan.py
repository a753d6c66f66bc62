"""What a run will take, said before it begins: work, memory of each worker, disk and days."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import torch

from datapipe.errors import UserError
from harmoview.data.encoded import EncodedShards
from harmoview.encode.settings import default_buckets
from harmoview.load import boundary_of
from harmoview.model.injection import QWEN_DIM, QWEN_SIZE
from harmoview.model.transformer import HarmoViewTransformer3DModel
from harmoview.model.weights import config_on_wan, is_hub_name
from harmoview.recipes import recipe_of
from harmoview.train.cost import (
    BatchCost,
    BatchShape,
    WeightCost,
    batch_cost,
    weight_cost,
)
from harmoview.train.expert_phase import ExpertPhase, expert_phases
from harmoview.train.settings import TrainSettings
from harmoview.trainable import TrainSet
from training.device import Card
from training.options import Recompute

GIB = 2**30
OF_CUDA = 2 * GIB
"""What CUDA, cuDNN and NCCL take of a GPU before the first tensor; assumed, not computed."""
MARGINAL = 0.85
"""The share of a GPU's memory from which a run is marginal: torch's allocator does not fill it."""


@dataclass(frozen=True)
class PlannedGroup:
    """Samples of one size and number of people."""

    frames: int
    height: int
    width: int
    people: int
    samples: int
    """0 where the data are not there yet."""
    shape: BatchShape

    def __str__(self) -> str:
        who = "1 person" if self.people == 1 else f"{self.people} people"
        return f"{self.frames} frames of {self.width}x{self.height}, {who}"


@dataclass(frozen=True)
class PlannedMemory:
    """The bytes of one worker at the peak of a step."""

    weights: WeightCost
    batch: BatchCost
    accumulates: bool
    """Whether gradients are there from the step's first micro-batch on."""

    @property
    def total(self) -> int:
        """Sum up what is there at the same time.

        In a step of one micro-batch gradients come as the activations that were kept go.
        """
        own, batch = self.weights, self.batch
        kept, gradients = batch.kept, own.gradients
        both = kept + gradients if self.accumulates else max(kept, gradients)
        return own.weights + own.optimizer + own.averages + own.gathered + both + batch.block

    def parts(self) -> dict[str, int]:
        """Name the bytes that are there at the peak."""
        named = {"weights": self.weights.weights, "gradients": self.weights.gradients,
                 "AdamW": self.weights.optimizer, "averages": self.weights.averages,
                 "gathered blocks": self.weights.gathered, "kept activations": self.batch.kept,
                 "a block at work": self.batch.block}  # fmt: skip
        if not self.accumulates:
            del named[min("gradients", "kept activations", key=named.__getitem__)]
        return {name: size for name, size in named.items() if size}


@dataclass(frozen=True)
class RunPlan:
    """A run's settings and data; the costs are counted when they are asked for."""

    settings: TrainSettings
    groups: tuple[PlannedGroup, ...]
    config: dict[str, Any]
    workers: int
    dtype: torch.dtype
    recompute: Recompute
    known: bool
    """Whether the groups are those of encoded shards, not those of the base's default sizes."""
    _costs: dict[tuple[TrainSet, PlannedGroup], BatchCost] = field(default_factory=dict)

    @cached_property
    def parts(self) -> list[ExpertPhase]:
        """List the phases of each expert."""
        return expert_phases(self.settings, boundary_of(self.settings.base))

    @cached_property
    def train_sets(self) -> list[TrainSet]:
        """List what learns in one phase or another."""
        return sorted({part.phase.train_set for part in self.parts})

    def cost(self, train: TrainSet, group: PlannedGroup) -> BatchCost:
        """Count what a micro-batch of a group costs; a second time it is known."""
        if (train, group) not in self._costs:
            self._costs[train, group] = batch_cost(
                self.config, train, self.settings.lora, group.shape, self.dtype,
                again=self.recompute, held=self.settings.quantize,
            )  # fmt: skip
        return self._costs[train, group]

    @cached_property
    def weights(self) -> dict[TrainSet, WeightCost]:
        """Count what the weights take of each worker."""
        return {
            train: weight_cost(
                self.config, train, self.settings.lora, self.workers, self.dtype,
                ema=bool(self.settings.ema), held=self.settings.quantize,
            )
            for train in self.train_sets
        }  # fmt: skip

    def memory(self, group: PlannedGroup) -> PlannedMemory:
        """Return the memory of the phase that needs most of it."""
        together = self.settings.context_parallel
        accumulates = self.settings.micro_batches > self.workers // together
        each = []
        for train in self.train_sets:
            cost = self.cost(train, group)
            shared = replace(cost, kept=cost.kept // together, block=cost.block // together)
            each.append(PlannedMemory(self.weights[train], shared, accumulates))
        return max(each, key=lambda one: one.total)

    @property
    def largest(self) -> PlannedGroup:
        """The group with most tokens, which needs most memory."""
        views = len(self.config["yaws"])
        return max(
            self.groups, key=lambda one: one.shape.video_tokens + one.shape.reference_tokens(views)
        )

    def group_of(self, latents: Sequence[int], people: int) -> PlannedGroup:
        """Return the group of latents [B, C, F, h, w] with that many people."""
        size = tuple(latents[2:])
        return next(
            group
            for group in self.groups
            if group.people == people
            and size == (group.shape.frames, group.shape.height, group.shape.width)
        )

    def flops(self, train: TrainSet, group: PlannedGroup) -> float:
        """Return the operations of a step, of all workers."""
        return self.cost(train, group).flops * self.settings.micro_batches

    def share(self, group: PlannedGroup, card: Card) -> float:
        """Return what of a card's memory a group takes."""
        return (self.memory(group).total + OF_CUDA) / GIB / card.memory

    def run_flops(self) -> float:
        """Return the operations of the whole run; groups count by their samples."""
        total = sum(group.samples or 1 for group in self.groups)
        return sum(
            part.phase.steps
            * sum((g.samples or 1) * self.flops(part.phase.train_set, g) for g in self.groups)
            / total
            for part in self.parts
        )


def plan_run(
    settings: TrainSettings,
    data: EncodedShards | None,
    workers: int,
    *,
    on_gpu: bool,
    card: Card | None = None,
) -> RunPlan:
    """Plan a run on these data, or on the base's default sizes where they are not encoded yet.

    Of the base only the configs are read. Where --recompute is left open, it is the least with
    which all groups fit on the card; all of it where the card is not known. Raises UserError where
    there are no configs, and for workers that `train` would refuse.
    """
    _check_configs(settings.base)
    settings.check_workers(workers)
    # whatever absent views are, the plan is that of samples that lack none
    chosen = {**settings.model_settings(), "absent_views": "proxy"}
    boundary = boundary_of(settings.base)
    config = config_on_wan(settings.base, "transformer", chosen, weights=False)
    groups = (
        _assumed_groups(settings, config, boundary) if data is None else groups_of(settings, data)
    )
    features = groups[0].shape.features
    vit = None
    if features:
        vit = QWEN_DIM if data is None else _features_of(data)[1]
    config = {**config, "vit_dim": vit}
    with torch.device("meta"):  # for the settings that the base's config leaves out
        small = HarmoViewTransformer3DModel.from_config({**config, "num_layers": 1})
    whole = {k: v for k, v in small.config.items() if k[0] != "_"}
    bfloat16 = settings.precision == "bfloat16" or (settings.precision is None and on_gpu)
    plan = RunPlan(
        settings,
        tuple(groups),
        {**whole, "num_layers": config.get("num_layers", whole["num_layers"])},
        workers,
        torch.bfloat16 if bfloat16 else torch.float32,
        settings.recompute or ("all" if on_gpu else "none"),
        data is not None,
    )
    if settings.recompute is None and card is not None:
        for kind in get_args(Recompute):
            less = replace(plan, recompute=kind, _costs={})
            if less.share(less.largest, card) < MARGINAL:
                return less
    return plan


def _check_configs(base: str) -> None:
    wanted = [Path(base) / name for name in ("model_index.json", "transformer/config.json")]
    missing = [str(path) for path in wanted if not path.is_file()]
    if missing and not is_hub_name(base):
        raise UserError(f"--base {base}: a plan needs {' and '.join(missing)}, or a hub name")


def _features_of(data: EncodedShards) -> tuple[int, int]:
    """Return how many tokens of features a person has, and how wide they are; 0 without any."""
    features = data.example.features
    return (0, 0) if features is None else (features.shape[1], features.shape[2])


def groups_of(settings: TrainSettings, data: EncodedShards) -> list[PlannedGroup]:
    example, encoded = data.example, data.manifest.settings
    factor = 16 if len(example.video) == 48 else 8
    names = ("frames", "height", "width", "identities")
    columns = [data.column(name).tolist() for name in names]
    features = 0 if settings.without_mfi else _features_of(data)[0]
    found: list[PlannedGroup] = []
    for (frames, height, width, people), samples in sorted(
        Counter(zip(*columns, strict=True)).items()
    ):
        shape = BatchShape(
            settings.micro_batch, (frames - 1) // 4 + 1, height // factor, width // factor, people,
            example.references.shape[-1], encoded.text_length, features,
        )  # fmt: skip
        found.append(PlannedGroup(frames, height, width, people, samples, shape))
    return found


def _assumed_groups(
    settings: TrainSettings, config: dict[str, Any], boundary: float | None
) -> list[PlannedGroup]:
    """Return the base's long clips, of one person and of two; the features are Qwen2.5-VL's."""
    channels = config["in_channels"]
    factor = 16 if channels == 48 else 8
    recipe = recipe_of(channels, 1 if boundary is None else 2)
    bucket = default_buckets(recipe, 2 * factor)[0]
    features = 0 if settings.without_mfi else (QWEN_SIZE // 28) ** 2
    one = BatchShape(
        settings.micro_batch, (bucket.frames - 1) // 4 + 1, bucket.height // factor,
        bucket.width // factor, 1, 512 // factor, 512, features,
    )  # fmt: skip
    return [
        PlannedGroup(bucket.frames, bucket.height, bucket.width, people, 0,
                     replace(one, people=people))
        for people in (1, 2)
    ]  # fmt: skip
