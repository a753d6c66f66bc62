"""Which parameters a phase trains: all, a LoRA, or HarmoView's new parts with a LoRA."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from datapipe.errors import check_range
from harmoview.model.new_parts import NEW_PARTS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harmoview.model.transformer import HarmoViewTransformer3DModel

TrainSet = Literal["full", "lora", "new_parts", "new_parts_and_lora"]
TARGETS = (
    "attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0",
    "attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0",
    "ffn.net.0.proj", "ffn.net.2",
)  # fmt: skip
"""The adapter's layers: every linear layer of every block."""


@dataclass(frozen=True, slots=True)
class Lora:
    """The size of an adapter. Raises ValueError where it is below 1."""

    rank: int = 32
    alpha: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        check_range(self, "rank", "alpha", least=1, option="")


def check_train_set(value: str) -> None:
    """Check a choice of `TrainSet`. Raises ValueError for another."""
    if value not in get_args(TrainSet):
        raise ValueError(f"train must be one of {get_args(TrainSet)}, got {value!r}")


def has_lora(train: TrainSet) -> bool:
    """Whether a set trains an adapter."""
    return train in ("lora", "new_parts_and_lora")


def add_lora(model: HarmoViewTransformer3DModel, lora: Lora) -> None:
    """Add an adapter that changes nothing yet, in float32; on meta, without values.

    All its weights have one dtype, because FSDP2 wants one among the trainable parameters of a
    group.
    """
    import torch
    from peft import LoraConfig

    device = next(model.parameters()).device
    with torch.device(device):
        model.add_adapter(
            LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=list(TARGETS))
        )
    parameters = {name: p for name, p in model.named_parameters() if ".lora_" in name}
    if device.type == "meta":
        for parameter in parameters.values():
            parameter.data = parameter.data.float()
        return
    for name, value in first_adapter(parameters, lora.seed).items():
        parameters[name].data = value.to(device)


def first_adapter(parameters: Mapping[str, nn.Parameter], seed: int) -> dict[str, Tensor]:
    """Draw the adapter among the parameters, float32 on the CPU, the same on every machine.

    A is uniform as in a new linear layer, drawn from the seed and its own name; B is zero.
    """
    import torch

    found = {}
    for name, parameter in parameters.items():
        if ".lora_B." in name:
            found[name] = torch.zeros(parameter.shape, device="cpu")
        elif ".lora_A." in name:
            digest = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=7).digest()
            draw = torch.Generator("cpu").manual_seed(int.from_bytes(digest, "big"))
            level = torch.rand(parameter.shape, generator=draw, device="cpu")
            found[name] = (2 * level - 1) * parameter.shape[-1] ** -0.5
    return found


def select(model: HarmoViewTransformer3DModel, train: TrainSet) -> list[str]:
    """Let exactly the parameters of a set require gradients, and return their names in order.

    "full" leaves an adapter out, which would train the same layers twice. Raises ValueError where
    the set has an adapter and the model does not have it yet.
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
