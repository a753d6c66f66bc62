"""Views of a portrait by FLUX.1 Kontext and the yaw LoRA."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from datapipe.errors import BadSample
from datapipe.record import YAWS, Image
from datapipe.stage import GpuTurns
from lora_engine.flux.base import SYNTHESIS, TEXT, file_hash
from lora_engine.flux.inputs import SynthesisInputs, synthesis_inputs
from lora_engine.flux.settings import SPEEDS, FluxSettings
from training.device import silence_libraries
from training.options import QUANTIZERS

if TYPE_CHECKING:
    from lora_engine.flux.denoise import Denoiser


class FluxSynthesizer:
    """Makes views with FLUX.1 Kontext.

    Several threads may call it: one at a time is on the device, while the others prepare references
    and take results away.
    """

    name = "flux"

    def __init__(
        self,
        settings: FluxSettings,
        yaws: Sequence[int] = YAWS,
        resolution: int | None = None,
    ) -> None:
        """Takes the side of a view in pixels; None is the adapter's, or 1024 for a base alone."""
        self.settings, self._yaws, self._resolution = settings, tuple(yaws), resolution
        self._denoiser: Denoiser | None = None
        self._turns = GpuTurns()

    def __getstate__(self) -> tuple[FluxSettings, tuple[int, ...], int | None]:
        return self.settings, self._yaws, self._resolution

    def __setstate__(self, state: tuple[FluxSettings, tuple[int, ...], int | None]) -> None:
        self.__init__(*state)  # type: ignore[misc]  # a lock cannot be pickled

    def inputs(self) -> SynthesisInputs:
        """Check every file and option without loading weights. Raises UserError."""
        return synthesis_inputs(self.settings, self._yaws, self._resolution)

    def provenance(self) -> dict[str, object]:
        """Return what makes the views, with hashes of the files. Raises UserError as `inputs`."""
        inputs, s = self.inputs(), self.settings
        libraries = ["diffusers", "torch"]
        if s.quantize not in (None, "none"):
            libraries.append(QUANTIZERS[s.quantize])
        components = SYNTHESIS if inputs.embeddings else (*SYNTHESIS, *TEXT)
        return {
            "engine": self.name,
            "base": inputs.base.name,
            "base_files": inputs.base.hashes(components),
            "adapter": inputs.adapter and file_hash(inputs.adapter),
            "embeddings": inputs.embeddings and file_hash(inputs.embeddings),
            "yaws": list(self._yaws),
            "resolution": inputs.resolution,
            "text_length": inputs.text_length,
            "steps": s.denoising_steps,
            "guidance": s.guidance,
            "reference_kv": inputs.reference_kv,
            "speed": s.speed,
            "turbo": inputs.turbo and file_hash(inputs.turbo),
            "turbo_strength": inputs.turbo and s.turbo_strength,
            "precision": s.precision,
            "quantize": s.quantize or ("fp8 where fast" if SPEEDS[s.speed].fp8 else "none"),
            "attention": s.attention,
            "compile": s.compile,
            "versions": {name: version(name) for name in libraries},
        }

    def setup(self) -> None:
        """Load the models. Raises UserError when a file is missing or unusable."""
        silence_libraries()
        from lora_engine.flux.denoise import Denoiser

        self._denoiser = Denoiser.load(self.settings, self.inputs())

    def __call__(self, reference: Image, yaws: Sequence[int], seeds: Sequence[int]) -> list[Image]:
        """Make a square view for each yaw; its seed decides its noise.

        Raises BadSample "engine_refused" for a reference that is not square or a model that gives
        no finite picture, and ValueError for yaws without a prompt.
        """
        if self._denoiser is None:
            raise RuntimeError("FluxSynthesizer.setup() has not run")
        if unknown := [yaw for yaw in yaws if yaw not in self._yaws]:
            raise ValueError(f"no prompts for the yaws {unknown}; have {self._yaws}")
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
