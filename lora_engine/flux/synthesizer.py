"""Seven views of a portrait by FLUX.1 Kontext and the yaw LoRA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from datapipe.errors import BadSample, UserError
from datapipe.gpu import Turns
from datapipe.record import YAWS, Image
from lora_engine.flux import prompts
from lora_engine.flux.adapter import adapter_file, check_adapter, read_header
from lora_engine.flux.base import (
    SYNTHESIS,
    TEXT,
    Base,
    base_shapes,
    check_adapter_fits,
    file_hash,
    find_base,
)
from lora_engine.flux.options import PACKAGE, Quantize
from training.device import silence_libraries
from training.options import Precision

if TYPE_CHECKING:
    from lora_engine.flux.denoise import Denoiser


@dataclass(frozen=True, slots=True)
class FluxSettings:
    """How views are made. What is None follows the adapter or the device."""

    base: str
    """A diffusers folder or hub name of FLUX.1-Kontext-dev."""
    lora: str | None = None
    """The adapter that train-lora wrote; without it, the base alone."""
    yaws: tuple[int, ...] = YAWS
    """Degrees; the adapter must know them."""
    resolution: int | None = None
    """Side of a view in pixels; None: the adapter's, or 1024."""
    steps: int = 28
    guidance: float = 2.5
    """Distilled guidance; the LoRA is trained at 1, Kontext is sampled best at 2.5."""
    reference_kv: bool | None = None
    """Two-pass reference; None: as the adapter was trained."""
    exact: bool = False
    """Bit for bit the stock pipeline's views: one at a time, LoRA not fused, no compilation."""
    device: str | None = None
    """None: a GPU if there is one."""
    precision: Precision | None = None
    """None: bfloat16 on a GPU, float32 on a CPU."""
    quantize: Quantize = "none"
    """Hold the base, with the LoRA fused into it, in 8 bits (fp8) or 4 (nf4)."""
    attention: str | None = None
    """A diffusers attention backend; None: the fastest installed that only rounds differently."""
    compile: bool | None = None
    """Compile the transformer's blocks; None: on a GPU."""
    micro_batch: int | None = None
    """Views denoised at once; None: as many as fit in memory."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")
        if self.guidance <= 0:
            raise ValueError(f"guidance must be positive, not {self.guidance}")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise ValueError(f"micro_batch must be at least 1, not {self.micro_batch}")
        if self.exact and (self.compile or self.attention not in (None, "native")):
            raise ValueError("exact excludes compile and other attention backends")
        if self.exact and self.quantize != "none":
            raise ValueError("exact excludes quantize, which changes the weights")
        if self.reference_kv and self.lora is None:
            raise ValueError("reference_kv needs an adapter that was trained with it")


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings with everything the files decide filled in."""

    base: Base
    resolution: int
    text_length: int
    embeddings: Path | None
    """The prompts' embeddings that came with the adapter."""
    reference_kv: bool


class FluxSynthesizer:
    """A ViewSynthesizer. Several threads may call it: one is on the device at a time, while the
    others prepare references and take results away."""

    name = "flux"

    def __init__(self, settings: FluxSettings) -> None:
        self.settings = settings
        self._denoiser: Denoiser | None = None
        self._turns = Turns()

    def __getstate__(self) -> FluxSettings:
        return self.settings

    def __setstate__(self, settings: FluxSettings) -> None:
        self.__init__(settings)  # type: ignore[misc]  # a lock does not travel, settings suffice

    def plan(self) -> Plan:
        """Check every file and option without loading weights. Raises UserError."""
        from lora_engine.flux.quantize import check_quantize
        from training.device import check_attention, device_named

        s = self.settings
        check_quantize(s.quantize, device_named(s.device))
        if s.attention is not None:
            check_attention(s.attention)
        header = beside = None
        if s.lora is not None:
            file = adapter_file(s.lora)
            header = read_header(file)
            check_adapter(file, header, s.yaws, s.reference_kv)
            beside = file.with_name(prompts.FILE)
        if beside is not None and not beside.is_file():
            beside = None
        base = find_base(s.base, SYNTHESIS if beside else (*SYNTHESIS, *TEXT))
        weights = base_shapes(base)
        if s.lora is not None:
            check_adapter_fits(adapter_file(s.lora), base, weights)
        resolution = s.resolution or (header.resolution if header else 1024)
        if resolution % base.multiple:
            raise UserError(f"--resolution {resolution}: must be a multiple of {base.multiple}")
        return Plan(
            base=base,
            resolution=resolution,
            text_length=header.text_length if header else prompts.LENGTH,
            embeddings=beside,
            reference_kv=header is not None and header.reference_mode == "two-pass",
        )

    def provenance(self) -> dict[str, object]:
        """What makes the views; reads the files' hashes. Raises UserError."""
        plan, s = self.plan(), self.settings
        libraries = ["diffusers", "torch"]
        if s.quantize != "none":
            libraries.append(PACKAGE[s.quantize])
        return {
            "engine": self.name,
            "base": plan.base.name,
            "base_files": plan.base.hashes(SYNTHESIS if plan.embeddings else (*SYNTHESIS, *TEXT)),
            "adapter": s.lora and file_hash(adapter_file(s.lora)),
            "embeddings": plan.embeddings and file_hash(plan.embeddings),
            "yaws": list(s.yaws),
            "resolution": plan.resolution,
            "text_length": plan.text_length,
            "steps": s.steps,
            "guidance": s.guidance,
            "reference_kv": plan.reference_kv,
            "exact": s.exact,
            "precision": s.precision,
            "quantize": s.quantize,
            "attention": s.attention,
            "compile": s.compile,
            "versions": {name: version(name) for name in libraries},
        }

    def setup(self) -> None:
        """Load the models. Raises UserError when a file is missing or unusable."""
        silence_libraries()
        from lora_engine.flux.denoise import Denoiser

        self._denoiser = Denoiser.load(self.settings, self.plan())

    def __call__(self, reference: Image, yaws: Sequence[int], seeds: Sequence[int]) -> list[Image]:
        """Square RGB views. Raises BadSample("engine_refused", …) and ValueError for other yaws."""
        if self._denoiser is None:
            raise RuntimeError("FluxSynthesizer.setup() has not run")
        if unknown := [yaw for yaw in yaws if yaw not in self.settings.yaws]:
            raise ValueError(f"no prompts for the yaws {unknown}; have {self.settings.yaws}")
        if len(yaws) != len(seeds):
            raise ValueError(f"{len(yaws)} yaws but {len(seeds)} seeds")
        height, width = reference.shape[:2]
        if height != width:
            detail = f"the reference is {width}×{height} pixels, not square"
            raise BadSample("engine_refused", detail)
        prepared = self._denoiser.prepare(reference)
        with self._turns:
            views = self._denoiser.views(prepared, yaws, seeds)
        return self._denoiser.finish(views)
