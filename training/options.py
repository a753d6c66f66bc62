"""The words that both trainers' settings are made of; imports nothing heavy."""

from __future__ import annotations

import logging
from typing import Literal

Precision = Literal["bfloat16", "float32"]
Recompute = Literal["none", "all_but_attention", "all"]
"""What a backward pass computes a second time instead of keeping it."""
Optimizer = Literal["adamw", "adamw8bit"]
Schedule = Literal["constant", "linear", "cosine"]
"""What a learning rate does after the warm-up: stay, or fall to 0 at the last step, in a straight
line or in half a cosine."""


def hush_imports() -> None:
    """Let no library say on its import what it would like to be installed with."""
    for noisy in ("torchao", "torch.utils._pytree", "bitsandbytes", "diffusers.quantizers"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
