"""The words that both trainers' settings are made of; imports nothing heavy."""

from __future__ import annotations

from typing import Literal

Precision = Literal["bfloat16", "float32"]
