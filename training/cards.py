"""What GPUs can do by their makers' data sheets, for plans and for the share of it that is used."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from datapipe.errors import UserError


@dataclass(frozen=True, slots=True)
class Card:
    """A kind of GPU."""

    name: str
    """As the driver names it, or the part of it that tells it from others."""
    flops: float
    """Dense bfloat16 operations a second at best."""
    memory: float
    """GiB that a process sees."""


CARDS = (
    Card("H100 PCIe", 756e12, 79), Card("H100 NVL", 835e12, 93), Card("H100", 989e12, 79),
    Card("H200 NVL", 835e12, 139), Card("H200", 989e12, 139), Card("B200", 2250e12, 178),
    Card("A100", 312e12, 79), Card("L40S", 362e12, 44), Card("RTX 4090", 165e12, 23),
)  # fmt: skip
"""Looked through in this order, so that the longer name comes first."""


def card_here() -> Card | None:
    """Return the kind of this process's GPU; None where there is none, or an unknown one.

    Its memory is no more than is there: A100s of 40 GB and slices of a card have the same name.
    """
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    card = next((card for card in CARDS if card.name in name), None)
    if card is None:
        return None
    there = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return replace(card, memory=min(card.memory, there // 2**30))


def card_named(name: str) -> Card:
    """Return the card of that name. Raises UserError where it is not known."""
    for card in CARDS:
        if card.name.lower() == name.lower():
            return card
    known = ", ".join(card.name for card in CARDS)
    raise UserError(f"--card {name}: known are {known}")
