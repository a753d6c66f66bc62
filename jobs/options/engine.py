"""The options that choose a view engine, for every command that makes views.

Optional dependencies, named before they are missed.

The options that choose the face models, for every command that looks at faces.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from datapipe.errors import UserError, install
from datapipe.faces.base import FACES, FaceAnalyzer, face_analyzer
from datapipe.stage import ViewSynthesizer

if TYPE_CHECKING:
    from lora_engine.flux.synthesizer import FluxSettings


def need_train(what: str) -> None:
    """Raises UserError when the packages of the extra `train` are not installed."""
    packages = ("torch", "diffusers", "transformers", "peft", "safetensors")
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise UserError(f"{what} needs {', '.join(missing)}: {install('train')}")


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

    engine: Literal["mesh", "flux"] = "mesh"
    """mesh: the reference lifted onto a textured head, on the CPU; flux: FLUX.1 Kontext and the
    LoRA of `harmoview train-lora`, on a GPU."""
    base: str | None = None
    """flux: a diffusers folder or hub name of FLUX.1-Kontext-dev."""
    lora: str | None = None
    """flux: the adapter, or the folder it is in; without it, the base alone."""
    resolution: int | None = None
    """Side of a view, pixels; the default is the adapter's, 1024 for a base alone, 512 for mesh."""
    denoising_steps: int = 28
    """flux: more are finer and slower."""
    guidance: float = 2.5
    """flux: how closely the prompt is followed."""
    reference_kv: bool | None = None
    """flux: the reference goes through the model once; the default is as the adapter was trained,
    which is the only way it works."""
    exact: bool = False
    """flux: bit for bit what the stock pipeline gives, at its speed."""
    precision: Literal["bfloat16", "float32"] | None = None
    """flux: the default is bfloat16 on a GPU and float32 on a CPU."""
    quantize: Literal["none", "fp8", "nf4"] = "none"
    """flux: hold the model in 8 bits (fp8, also faster on Ada and Hopper GPUs) or in 4 (nf4)."""
    attention: str | None = None
    """flux: a diffusers attention backend; the default is the fastest that only rounds
    differently."""
    compile: bool | None = None
    """flux: compile the model's blocks; the default is to, on a GPU."""
    micro_batch: int | None = None
    """flux: views at once; the default is as many as memory allows."""

    def __post_init__(self) -> None:
        if self.engine == "mesh" and (self.base or self.lora):
            raise ValueError("--base and --lora belong to --engine flux")
        if self.engine == "flux" and self.base is None:
            raise ValueError("--engine flux needs --base, a folder or hub name of FLUX.1-Kontext")

    def load(self, yaws: Sequence[int]) -> ViewSynthesizer:
        """The engine, not yet set up. Raises UserError."""
        from lora_engine.load import view_synthesizer

        flux = self._flux(yaws) if self.engine == "flux" else None
        return view_synthesizer(self.engine, size=self.resolution or 512, flux=flux)

    def _flux(self, yaws: Sequence[int]) -> FluxSettings:
        need_train("--engine flux")
        from lora_engine.flux.synthesizer import FluxSettings

        try:
            return FluxSettings(
                base=self.base or "",
                lora=self.lora,
                yaws=tuple(yaws),
                resolution=self.resolution,
                steps=self.denoising_steps,
                guidance=self.guidance,
                reference_kv=self.reference_kv,
                exact=self.exact,
                precision=self.precision,
                quantize=self.quantize,
                attention=self.attention,
                compile=self.compile,
                micro_batch=self.micro_batch,
            )
        except ValueError as wrong:
            raise UserError(str(wrong)) from wrong
