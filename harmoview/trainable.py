"""Which parameters a phase trains: all, a LoRA, or HarmoView's new parts with a LoRA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from harmoview.model.new_parts import NEW_PARTS

if TYPE_CHECKING:
    from harmoview.model.transformer import HarmoViewTransformer3DModel

TrainSet = Literal["full", "lora", "new_parts", "new_parts_and_lora"]
TARGETS = (
    "attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0",
    "attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0",
    "ffn.net.0.proj", "ffn.net.2",
)  # fmt: skip
"""Every linear layer of every block."""


@dataclass(frozen=True, slots=True)
class Lora:
    """The size of the adapter."""

    rank: int = 32
    alpha: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha < 1:
            raise ValueError(f"rank and alpha must be at least 1, got {self.rank}, {self.alpha}")


def check_train_set(value: str) -> None:
    """Raises ValueError where `value` is not one of `TrainSet`."""
    if value not in get_args(TrainSet):
        raise ValueError(f"train must be one of {get_args(TrainSet)}, got {value!r}")


def has_lora(train: TrainSet) -> bool:
    """Whether an adapter is among what the set trains."""
    return train in ("lora", "new_parts_and_lora")


def add_lora(model: HarmoViewTransformer3DModel, lora: Lora) -> None:
    """Add an adapter that changes nothing yet; its weights are float32, drawn from the seed.

    One dtype for all of them, because FSDP2 wants one among a group's trainable parameters.
    """
    import torch
    from peft import LoraConfig

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(lora.seed)
        model.add_adapter(
            LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=list(TARGETS))
        )
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.float()


def select(model: HarmoViewTransformer3DModel, train: TrainSet) -> list[str]:
    """Let exactly the parameters of the set require gradients; their names, in order.

    The adapter, if the set has one, must be there already. "full" leaves an adapter out: it would
    train the same layers twice. Raises ValueError.
    """

    check_train_set(train)
    if has_lora(train) and not any(".lora_" in name for name, _ in model.named_parameters()):
        raise ValueError(f"train {train!r} needs an adapter: call add_lora first")

    def chosen(name: str) -> bool:
        if ".lora_" in name:
            return has_lora(train)
        return train == "full" or (train != "lora" and name in NEW_PARTS)

    names = []
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(chosen(name))
        if parameter.requires_grad:
            names.append(name)
    return names
