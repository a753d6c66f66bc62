"""Choosing a view engine by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from datapipe.record import YAWS
from datapipe.stage import ViewSynthesizer
from lora_engine.flux.settings import FluxSettings

ENGINES = Literal["none", "mesh", "flux"]


def view_synthesizer(
    name: Literal["mesh", "flux"],
    *,
    flux: FluxSettings,
    yaws: Sequence[int] = YAWS,
    resolution: int | None = None,
) -> ViewSynthesizer:
    """Return an engine, not yet set up, whose views have `resolution` pixels a side.

    None is 512 for mesh; for flux it is the adapter's, or 1024 for a base alone.
    """
    match name:
        case "mesh":
            from lora_engine.mesh.engine import MeshSettings, MeshSynthesizer

            return MeshSynthesizer(MeshSettings(size=resolution or 512))
        case "flux":
            from lora_engine.flux.synthesizer import FluxSynthesizer

            return FluxSynthesizer(flux, yaws, resolution)
