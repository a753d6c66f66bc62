"""What both trainers share with those who only describe or watch them; imports nothing heavy.

The words of their settings, and what a training does before its steps and between them, told to
whoever shows it.
"""

from __future__ import annotations

import logging
from typing import Literal

Precision = Literal["bfloat16", "float32"]
Quantize = Literal["none", "fp8", "nf4"]
QUANTIZERS = {"fp8": "torchao", "nf4": "bitsandbytes"}
"""The packages that quantise."""
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


STAGES = logging.getLogger("harmoview.stages")
"""Hears a message as each stage begins; who shows progress adds a handler."""
STAGES.setLevel(logging.INFO)
STAGES.propagate = False


def stage(what: str) -> None:
    """Tell what begins now: "loading the model"."""
    STAGES.info(what)
