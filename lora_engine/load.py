"""Choosing a view engine by name."""

from __future__ import annotations

from typing import Literal

from datapipe.stage import ViewSynthesizer

ENGINES = Literal["mesh"]


def view_synthesizer(name: ENGINES, *, size: int = 512) -> ViewSynthesizer:
    """An engine, not yet set up, whose views have `size` pixels a side."""
    match name:
        case "mesh":
            from lora_engine.mesh.engine import MeshSettings, MeshSynthesizer

            return MeshSynthesizer(MeshSettings(size=size))
