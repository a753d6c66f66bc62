"""What a training does before its steps and between them, told to whoever shows it."""

from __future__ import annotations

import logging

STAGES = logging.getLogger("harmoview.stages")
"""Hears a message as each stage begins; who shows progress adds a handler."""
STAGES.setLevel(logging.INFO)
STAGES.propagate = False


def stage(what: str) -> None:
    """Tell what begins now: "loading the model"."""
    STAGES.info(what)
