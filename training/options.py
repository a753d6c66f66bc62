"""The words that both trainers' settings are made of; imports nothing heavy."""

from __future__ import annotations

import logging
from typing import Literal

Precision = Literal["bfloat16", "float32"]


def hush_imports() -> None:
    """Let no library say on its import what it would like to be installed with."""
    for noisy in ("torchao", "torch.utils._pytree", "bitsandbytes", "diffusers.quantizers"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
