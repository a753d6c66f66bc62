"""How views are made with FLUX.1 Kontext, and how its LoRA is trained; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from datapipe.errors import check_range
from datapipe.record import YAWS
from training.options import Optimizer, Precision, Quantize, Schedule

ReferenceMode = Literal["concatenated", "two-pass"]
"""How the model sees the reference: its tokens beside the target's at every step (stock Kontext),
or once, through its keys and values (`lora_engine.flux.reference_kv`)."""

TARGETS = (
    "attn.to_q",
    "attn.to_k",
    "attn.to_v",
    "attn.to_out.0",
    "attn.add_q_proj",
    "attn.add_k_proj",
    "attn.add_v_proj",
    "attn.to_add_out",
    "ff.net.0.proj",
    "ff.net.2",
    "ff_context.net.0.proj",
    "ff_context.net.2",
    "proj_mlp",
)
"""The modules that the Kontext LoRA example of diffusers trains."""
MAX_TEXT = 512
"""Tokens that stock Kontext allows a prompt, and its default."""


Speed = Literal["exact", "safe", "fast"]


@dataclass(frozen=True, slots=True)
class SpeedSet:
    """What a `--speed` stands for; options of their own override the parts that have one."""

    batched: bool
    """Denoise as many views at once as memory allows."""
    fused: bool
    """Add the adapter to the weights."""
    tuned: bool
    """Take the fastest attention that only rounds differently, and on a GPU compile the blocks."""
    fp8: bool
    """Hold and multiply the blocks' weights in 8 bits where the card does (Ada, Hopper)."""
    text_length: int
    """T5 tokens of a prompt, for a base alone: an adapter works at its own length only."""
    step_cache: float | None = None
    """Leave the blocks after the first out at a step that changes its residual by less than this
    share (diffusers' FirstBlockCache)."""


SPEEDS: Mapping[Speed, SpeedSet] = {
    "exact": SpeedSet(batched=False, fused=False, tuned=False, fp8=False, text_length=MAX_TEXT),
    "safe": SpeedSet(batched=True, fused=True, tuned=True, fp8=True, text_length=64),
    "fast": SpeedSet(
        batched=True, fused=True, tuned=True, fp8=True, text_length=64, step_cache=0.05
    ),
}
"""exact: the stock pipeline, bit for bit. safe: its function, but for rounding and for the shorter
text. fast: an approximation of it, in which the views of a batch are not independent."""


@dataclass(frozen=True, slots=True)
class FluxSettings:
    """How --engine flux makes views. Raises ValueError for options that exclude each other."""

    base: str | None = None
    """A diffusers folder or hub name of FLUX.1-Kontext-dev."""
    lora: str | None = None
    """The adapter, or the folder it is in; without one, the base alone makes the views."""
    denoising_steps: int = 28
    """Steps from noise to a view; more are finer and slower."""
    guidance: float = 2.5
    """How closely the prompt is followed; the LoRA is trained at 1, Kontext is best at 2.5."""
    reference_kv: bool | None = None
    """Send the reference through the model once and not at every step; the default is the way in
    which the adapter was trained, and the only one in which it works."""
    speed: Speed = "safe"
    """exact: bit for bit what the stock pipeline makes; safe: batched, compiled, in fp8 where the
    card has it; fast: leave out much of the steps that change little, too."""
    turbo: str | None = None
    """A few-step LoRA on top, for fast; with --denoising-steps 8, say."""
    turbo_strength: float = 1.0
    """Strength of --turbo; its makers name it (0.125 for Hyper-SD's)."""
    precision: Precision | None = None
    """Precision of the model; the default is bfloat16 on a GPU and float32 on a CPU."""
    quantize: Quantize | None = None
    """Hold the model in 8 bits (fp8, also faster on Ada and Hopper GPUs) or in 4 (nf4); the default
    is the speed's."""
    attention: str | None = None
    """A diffusers attention backend; the default is the fastest that only rounds differently."""
    compile: bool | None = None
    """Compile the model's blocks; the default is True on a GPU."""
    micro_batch: int | None = None
    """Views that are denoised at once; the default is as many as memory allows."""

    def __post_init__(self) -> None:
        check_range(self, "denoising_steps", "micro_batch", least=1)
        check_range(self, "guidance", "turbo_strength", above=0)
        exact = self.speed == "exact"
        if exact and (self.compile or self.attention not in (None, "native")):
            raise ValueError("--speed exact excludes --compile and --attention but native")
        if exact and self.quantize not in (None, "none"):
            raise ValueError("--speed exact excludes --quantize, which changes the weights")
        if exact and self.micro_batch not in (None, 1):
            raise ValueError("--speed exact makes one view at once, as the stock pipeline")
        if self.turbo is not None and self.speed != "fast":
            raise ValueError("--turbo belongs to --speed fast")
        if self.reference_kv and self.lora is None:
            raise ValueError("--reference-kv needs a --lora that was trained with it")


@dataclass(frozen=True, slots=True)
class TrainLoraSettings:
    """Everything that decides what is trained. Raises ValueError for what does not go together."""

    pairs: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="PAIRS")]
    """The folder that `harmoview pairs` wrote."""
    out: str
    """Folder of the adapter, the checkpoints and the metrics."""
    base: str
    """A diffusers folder or hub name of FLUX.1-Kontext-dev."""
    yaws: tuple[int, ...] = YAWS
    """Degrees; the pairs must have them."""
    steps: int = 3000
    """Optimiser steps."""
    resolution: tuple[int, ...] = (512,)
    """Sides of reference and target, pixels. Of several each step draws one; validation has the
    first, and so have views where synthesis is not told otherwise."""
    rank: int = 32
    """Rank of the LoRA; a higher one can hold more and takes more memory."""
    alpha: float | None = None
    """The LoRA's scale is alpha / rank; the default is the rank. It is folded into the adapter."""
    init: str | None = None
    """An adapter to begin with, or the folder it is in; rank and targets must be its own."""
    targets: tuple[str, ...] = TARGETS
    """Modules that get a LoRA, by the end of their names."""
    reference_kv: bool = False
    """Train with the two-pass reference; the adapter then works in no other way."""
    groups: int = 1
    """People in one step, over all processes; they share the step's gradient."""
    yaws_per_group: int = 4
    """Targets of one person in one step; they share the reference."""
    flip: tyro.conf.FlagConversionOff[bool] = True
    """Mirror half of the groups, and negate their yaws."""
    variants: int = 4
    """Sets of latents of each subject. The first has the best frames as they are; in each of the
    others other frames, cut otherwise, with a reference of less quality."""
    crop_zoom: float = 1.25
    """Largest enlargement of a variant's pictures, reference and targets alike."""
    crop_shift: float = 0.05
    """Largest shift of a variant's pictures along each side, as a share of it."""
    reference_blur: float = 1.0
    """Largest blur of a variant's reference: sigma in pixels of the pairs' pictures."""
    reference_noise: float = 4.0
    """Largest noise of a variant's reference: standard deviation in grey levels, 0..255."""
    reference_jpeg: int = 60
    """Lowest JPEG quality of a variant's reference; 100 leaves it as it is."""
    learning_rate: float = 1e-4
    """Learning rate of AdamW after the warm-up."""
    warmup: int = 100
    """Steps over which the learning rate rises."""
    schedule: Schedule = "constant"
    """What the learning rate does after the warm-up: stay, or fall to 0 at --steps, in a straight
    line or in half a cosine."""
    weight_decay: float = 0.01
    """Weight decay of AdamW."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.99
    """Decay of the averaged weights, which are those that are saved and validated; 0 for none."""
    optimizer: Optimizer = "adamw"
    """adamw8bit needs bitsandbytes."""
    quantize: Quantize = "none"
    """Hold the base in 8 bits (fp8, torchao) or 4 (nf4, bitsandbytes)."""
    shard: bool = False
    """Share the base out over the workers' GPUs (FSDP2), for one that does not fit on each."""
    gradient_checkpointing: tyro.conf.FlagConversionOff[bool] = True
    """Compute each block twice instead of keeping its activations."""
    prompts: str | None = None
    """A TOML table of own prompts by yaw, "+30" = "…", which the adapter then carries."""
    text_length: int = 64
    """T5 tokens of a prompt, which synthesis then uses too. The prompts have 23 words; at 512² the
    512 tokens of stock Kontext are a fifth of all work."""
    precision: Precision | None = None
    """Precision of the base; the default is bfloat16 on a GPU and float32 on a CPU. The LoRA is
    float32."""
    device: str | None = None
    """The device; the default is a GPU if there is one."""
    seed: int = 0
    """Seed of the LoRA's start, the order of people, noise and timesteps."""
    checkpoint_every: int = 250
    """Steps between checkpoints, with which the adapter is written too."""
    keep: int = 3
    """Adapters that stay in OUT/adapters, the latest, besides the best by validation."""
    validate_every: int = 500
    """Steps between validations; 0 for none."""
    validation_people: int = 4
    """Held-out people of whom views are made, at most."""
    validation_steps: int = 28
    """Denoising steps of validation views."""
    tensorboard: bool = False
    """Write metrics for TensorBoard too."""
    wandb: bool = False
    """Send metrics to Weights & Biases too."""

    def __post_init__(self) -> None:
        check_range(self, "steps", "rank", "groups", "yaws_per_group", least=1)
        check_range(self, "checkpoint_every", "validation_people", "validation_steps", least=1)
        check_range(self, "keep", "variants", "crop_zoom", least=1)
        check_range(self, "crop_shift", least=0, under=1)
        check_range(self, "reference_blur", "reference_noise", least=0)
        check_range(self, "reference_jpeg", least=1, most=100)
        check_range(self, "warmup", "validate_every", "weight_decay", least=0)
        check_range(self, "learning_rate", "alpha", "clip", above=0)
        check_range(self, "text_length", least=1, most=MAX_TEXT)
        check_range(self, "ema", least=0, under=1)
        sides = self.resolution
        if not sides or min(sides) < 1 or len(set(sides)) < len(sides):
            raise ValueError(f"--resolution must be sides from 1 on that differ, not {sides}")
        if self.shard and self.quantize != "none":
            raise ValueError(
                "--shard and --quantize exclude each other: quantised weights cannot be shared out"
            )
        if self.init is not None and self.alpha not in (None, self.rank):
            raise ValueError("--alpha and --init exclude each other: the adapter's is folded in")
        if 0 not in self.yaws:
            raise ValueError("--yaws must include 0: the frontal frame is the reference")
        if self.flip and {-yaw for yaw in self.yaws} != set(self.yaws):
            raise ValueError(f"--yaws {self.yaws} are not symmetric: give --flip False")

    @property
    def lora_alpha(self) -> float:
        """The scale of the LoRA."""
        return self.rank if self.alpha is None else self.alpha

    @property
    def reference_mode(self) -> ReferenceMode:
        """How the adapter will see references."""
        return "two-pass" if self.reference_kv else "concatenated"

    @property
    def may_change(self) -> tuple[str, ...]:
        """Settings that may change when a training is resumed: no weight depends on them."""
        return MAY_CHANGE if self.schedule != "constant" else (*MAY_CHANGE, "steps")


MAY_CHANGE = ("out", "pairs", "base", "init", "prompts", "device", "shard", "checkpoint_every",
              "keep", "validate_every", "validation_people", "validation_steps", "tensorboard",
              "wandb")  # fmt: skip
"""Of pairs, base, adapter and prompts the content counts, not the place. Where the learning rate
stays, a run may also be made longer or shorter."""
