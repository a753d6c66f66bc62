"""Choosing a view engine by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from datapipe.stage import ViewSynthesizer

if TYPE_CHECKING:
    from lora_engine.flux.synthesizer import FluxSettings

ENGINES = Literal["mesh", "flux"]


def view_synthesizer(
    name: ENGINES, *, size: int = 512, flux: FluxSettings | None = None
) -> ViewSynthesizer:
    """An engine, not yet set up. The mesh engine's views have `size` pixels a side."""
    match name:
        case "mesh":
            from lora_engine.mesh.engine import MeshSettings, MeshSynthesizer

            return MeshSynthesizer(MeshSettings(size=size))
        case "flux":
            from lora_engine.flux.synthesizer import FluxSynthesizer

            if flux is None:
                raise ValueError("the flux engine needs its settings: base and adapter")
            return FluxSynthesizer(flux)
