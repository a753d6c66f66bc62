"""How views are made with FLUX.1 Kontext, and how its LoRA is trained; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from datapipe.errors import check_range
from datapipe.record import YAWS
from training.options import Precision

Quantize = Literal["none", "fp8", "nf4"]
ReferenceMode = Literal["concatenated", "two-pass"]
"""How the reference is seen: its tokens beside the target's at every step (stock Kontext), or
once, through its keys and values (`lora_engine.flux.reference_kv`)."""

QUANTIZERS = {"fp8": "torchao", "nf4": "bitsandbytes"}
"""The packages that quantise."""
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
"""The modules of diffusers' own Kontext LoRA example."""
MAX_TEXT = 512
"""Tokens that stock Kontext allows a prompt, and the number it takes by itself."""


@dataclass(frozen=True, slots=True)
class FluxSettings:
    """How --engine flux makes views with FLUX.1 Kontext."""

    base: str | None = None
    """A diffusers folder or hub name of FLUX.1-Kontext-dev."""
    lora: str | None = None
    """The adapter, or the folder it is in; without one, the base alone makes the views."""
    denoising_steps: int = 28
    """Steps from noise to a view; more are finer and slower."""
    guidance: float = 2.5
    """How closely the prompt is followed; the LoRA is trained at 1, Kontext is best at 2.5."""
    reference_kv: bool | None = None
    """The reference goes through the model once instead of at every step; the default is as the
    adapter was trained, which is the only way it works."""
    exact: bool = False
    """Make bit for bit what the stock pipeline makes, at its speed."""
    precision: Precision | None = None
    """Of the model; the default is bfloat16 on a GPU and float32 on a CPU."""
    quantize: Quantize = "none"
    """Hold the model in 8 bits (fp8, also faster on Ada and Hopper GPUs) or in 4 (nf4)."""
    attention: str | None = None
    """A diffusers attention backend; the default is the fastest that only rounds differently."""
    compile: bool | None = None
    """Compile the model's blocks; the default is to, on a GPU."""
    micro_batch: int | None = None
    """Views that are denoised at once; the default is as many as memory allows."""

    def __post_init__(self) -> None:
        check_range(self, "denoising_steps", "micro_batch", least=1)
        check_range(self, "guidance", above=0)
        if self.exact and (self.compile or self.attention not in (None, "native")):
            raise ValueError("--exact excludes --compile and other --attention than native")
        if self.exact and self.quantize != "none":
            raise ValueError("--exact excludes --quantize, which changes the weights")
        if self.reference_kv and self.lora is None:
            raise ValueError("--reference-kv needs a --lora that was trained with it")


@dataclass(frozen=True, slots=True)
class TrainLoraSettings:
    """Everything that decides what is trained."""

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
    resolution: int = 512
    """Side of reference and target, pixels."""
    rank: int = 32
    """Of the LoRA; a higher one can hold more and takes more memory."""
    alpha: float | None = None
    """None: as the rank."""
    targets: tuple[str, ...] = TARGETS
    """Modules that get a LoRA, by the end of their names."""
    reference_kv: bool = False
    """Two-pass reference (the adapter then works with it only)."""
    groups: int = 1
    """People in one step, over all processes; they share the step's gradient."""
    yaws_per_group: int = 4
    """Targets of one person in one step; they share the reference."""
    flip: tyro.conf.FlagConversionOff[bool] = True
    """Half of the groups are mirrored, with their yaws negated."""
    learning_rate: float = 1e-4
    """Of AdamW, after the warm-up."""
    warmup: int = 100
    """Steps over which the learning rate rises; constant after that."""
    weight_decay: float = 0.01
    """Of AdamW."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.99
    """Decay of the averaged weights, which are what is saved and validated; 0: none."""
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    """adamw8bit needs bitsandbytes."""
    quantize: Quantize = "none"
    """Hold the base in 8 bits (fp8, torchao) or 4 (nf4, bitsandbytes)."""
    shard: bool = False
    """Share the base out over the workers' GPUs (FSDP2), for one that does not fit on each."""
    gradient_checkpointing: tyro.conf.FlagConversionOff[bool] = True
    """Compute each block twice instead of keeping its activations."""
    text_length: int = 512
    """T5 tokens a prompt; synthesis must use the same."""
    precision: Precision | None = None
    """Of the base; None: bfloat16 on a GPU, float32 on a CPU. The LoRA is float32."""
    device: str | None = None
    """None: a GPU if there is one."""
    seed: int = 0
    """Of the LoRA's start, the order of people, noise and timesteps."""
    checkpoint_every: int = 250
    """Steps; the adapter is written then too."""
    validate_every: int = 500
    """Steps; 0: never."""
    validation_people: int = 4
    """Held-out people of whom views are made, at most."""
    validation_steps: int = 28
    """Denoising steps of validation views."""
    tensorboard: bool = False
    """Write metrics for TensorBoard too."""
    wandb: bool = False
    """Send metrics to Weights & Biases too."""

    def __post_init__(self) -> None:
        check_range(self, "steps", "resolution", "rank", "groups", "yaws_per_group", least=1)
        check_range(self, "checkpoint_every", "validation_people", "validation_steps", least=1)
        check_range(self, "text_length", least=1, most=MAX_TEXT)
        check_range(self, "ema", least=0, under=1)
        if self.shard and self.quantize != "none":
            raise ValueError(
                "--shard and --quantize exclude each other: such weights are not shared"
            )
        if 0 not in self.yaws:
            raise ValueError("--yaws must hold 0: the frontal frame is the reference")
        if self.flip and {-yaw for yaw in self.yaws} != set(self.yaws):
            raise ValueError(f"--yaws {self.yaws} are not symmetric: give --flip False")

    @property
    def lora_alpha(self) -> float:
        return self.rank if self.alpha is None else self.alpha

    @property
    def reference_mode(self) -> ReferenceMode:
        return "two-pass" if self.reference_kv else "concatenated"


MAY_CHANGE = ("out", "pairs", "base", "steps", "device", "shard", "checkpoint_every",
              "validate_every", "validation_people", "validation_steps", "tensorboard",
              "wandb")  # fmt: skip
"""Settings that a resumed training may have others of: the weights after a step are the same."""
