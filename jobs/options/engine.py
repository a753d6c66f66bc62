"""The options that choose the face models and the view engine, and what they build."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from datapipe.errors import UserError
from datapipe.faces import FACES, face_analyzer
from datapipe.faces.base import FaceAnalyzer
from datapipe.record import YAWS
from datapipe.stage import ViewSynthesizer
from jobs.cli import need_train
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


@dataclass(frozen=True)
class FaceSettings:
    """Which face models find, describe and compare faces."""

    faces: FACES = "light"
    """light: YuNet, SFace and 3DDFA on the CPU; buffalo_l: InsightFace's, non-commercial."""
    faces_folder: Path | None = None
    """buffalo_l's model pack; the default is ~/.insightface/models/buffalo_l."""

    def load(self, device: Literal["cpu", "cuda"] = "cpu") -> FaceAnalyzer:
        """The models, not yet set up; the light ones work on the CPU. Raises UserError."""
        where: Literal["cpu", "cuda"] = "cpu" if self.faces == "light" else device
        return face_analyzer(self.faces, device=where, folder=self.faces_folder)


@dataclass(frozen=True)
class EngineOptions:
    """What makes the views."""

    engine: ENGINES | None = None
    """mesh: the reference lifted onto a textured head, on the CPU; flux: FLUX.1 Kontext and the
    LoRA of `harmoview train-lora`, on a GPU; none: nothing is synthesised. The default is mesh, or
    flux where --base or --lora is given."""
    resolution: int | None = None
    """Side of a view, pixels; the default is the adapter's, 1024 for a base alone, 512 for mesh."""
    flux: tyro.conf.OmitArgPrefixes[FluxSettings] = field(default_factory=FluxSettings)

    def __post_init__(self) -> None:
        """Raises ValueError for options that cannot be, or not together."""
        if self.name != "flux" and (self.flux.base or self.flux.lora):
            raise ValueError("--base and --lora belong to --engine flux")
        if self.name == "flux" and self.flux.base is None:
            raise ValueError("--engine flux needs --base, a folder or hub name of FLUX.1-Kontext")

    @property
    def name(self) -> ENGINES:
        """The engine, where it is left to the other options too."""
        return self.engine or ("flux" if self.flux.base or self.flux.lora else "mesh")

    def load(self, yaws: Sequence[int]) -> ViewSynthesizer:
        """The engine, not yet set up. Raises UserError, also for `none`."""
        if self.name == "none":
            raise UserError("--engine none makes no views; take mesh or flux")
        if self.name == "flux":
            need_train("--engine flux")
        return view_synthesizer(self.name, flux=self.flux, yaws=yaws, resolution=self.resolution)
