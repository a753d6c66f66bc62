"""The loaded models of the FLUX engine, and the denoising of one reference's views."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FirstBlockCacheConfig,
    FlowMatchEulerDiscreteScheduler,
    FluxKontextPipeline,
    FluxTransformer2DModel,
)

from datapipe.errors import BadSample
from datapipe.record import Image
from lora_engine.flux import vae
from lora_engine.flux.adapter import chosen, load_adapter
from lora_engine.flux.inputs import SynthesisInputs
from lora_engine.flux.prompts import PromptEmbeddings, find_prompts
from lora_engine.flux.reference_kv import USE, ReferenceKV
from lora_engine.flux.settings import SPEEDS, FluxSettings
from training.device import best_attention, device_named, precision_named, use_attention
from training.quantize import quantize

VARIANTS = 64
"""Compiled forms that a block may have; one more is an error with `fullgraph`. A reference mode
at one resolution has up to 6, and torch's own limit is 8."""
LIVE_FLOATS = 48
"""Floats that a token keeps alive at the peak of a block, in units of the model's width: queries,
keys, values, the MLP's 4 + 1 widths twice over, residuals and the workspace of attention."""

log = logging.getLogger(__name__)


class Denoiser:
    """Transformer, VAE, scheduler and prompt embeddings on one device; no text encoder."""

    def __init__(
        self,
        settings: FluxSettings,
        resolution: int,
        transformer: Any,
        autoencoder: Any,
        scheduler: Any,
        embeddings: PromptEmbeddings,
        reference_kv: ReferenceKV | None = None,
    ) -> None:
        """Takes models that are on their device and prepared, as `load` does it."""
        self._settings = settings
        self._resolution = resolution
        self._reference_kv = reference_kv
        self._embeddings = embeddings
        self._micro_batch = settings.micro_batch if SPEEDS[settings.speed].batched else 1
        self._pipe = FluxKontextPipeline(
            scheduler=scheduler,
            vae=autoencoder,
            transformer=transformer,
            text_encoder=None,
            tokenizer=None,
            text_encoder_2=None,
            tokenizer_2=None,
        )
        self._pipe.set_progress_bar_config(disable=True)

    @classmethod
    def load(cls, settings: FluxSettings, inputs: SynthesisInputs) -> Denoiser:
        """Load everything from its files. Raises UserError where one is missing or unusable."""
        device = device_named(None)
        dtype = precision_named(settings.precision, device)
        path, options = inputs.base.path, {"dtype": dtype, "use_safetensors": True}
        embeddings = find_prompts(
            inputs.base, inputs.prompts, inputs.text_length, device, dtype, inputs.embeddings
        )
        transformer = FluxTransformer2DModel.from_pretrained(path / "transformer", **options)
        if inputs.adapter is not None:
            load_adapter(transformer, inputs.adapter)
        kind = chosen(settings, device, dtype)
        if SPEEDS[settings.speed].fused:
            if kind == "none":  # one to be quantised may not fit there whole
                transformer.to(device)  # on the one CPU thread of an actor fusing is slow
            _fuse(transformer)
        if inputs.turbo is not None:
            load_adapter(transformer, inputs.turbo)
            _fuse(transformer, settings.turbo_strength)
        quantize(transformer, kind, device, learns=False)
        transformer.to(device)
        transformer.eval().requires_grad_(False)
        autoencoder = AutoencoderKL.from_pretrained(path / "vae", **options).to(device).eval()
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(path / "scheduler")
        reference_kv = ReferenceKV(transformer) if inputs.reference_kv else None
        speed_up(transformer, settings, device)
        return cls(
            settings, inputs.resolution, transformer, autoencoder, scheduler, embeddings,
            reference_kv,
        )  # fmt: skip

    def __call__(self, reference: Image, yaws: Sequence[int], seeds: Sequence[int]) -> list[Image]:
        """Prepare the reference and make its views."""
        return self.finish(self.views(self.prepare(reference), yaws, seeds))

    def prepare(self, reference: Image) -> torch.Tensor:
        """Return the reference's pixels, on the CPU."""
        return vae.pixels(reference, self._resolution)

    @staticmethod
    def finish(views: Sequence[torch.Tensor]) -> list[Image]:
        """Make pictures of decoded views, on the CPU."""
        return [vae.picture(view) for view in views]

    def views(
        self, reference: torch.Tensor, yaws: Sequence[int], seeds: Sequence[int]
    ) -> list[torch.Tensor]:
        """Do all of the device's work: encode, denoise, decode. Views are (1, 3, H, W), on the CPU.

        Raises BadSample where the model gives no finite picture.
        """
        pipe, views = self._pipe, []
        latents = vae.encode(pipe.vae, reference)
        # set here, because a setting of torch's compiler holds in the thread that makes it
        with torch.no_grad(), torch._dynamo.config.patch(recompile_limit=VARIANTS):
            for tokens in self._denoised(latents, yaws, seeds):
                if not bool(torch.isfinite(tokens).all()):
                    raise BadSample("engine_refused", "the model gave no finite picture")
                views += [
                    vae.decode(pipe.vae, tokens[i : i + 1], self._resolution)
                    for i in range(len(tokens))
                ]
        return views

    def _denoised(
        self, latents: torch.Tensor, yaws: Sequence[int], seeds: Sequence[int]
    ) -> Iterator[torch.Tensor]:
        """Yield the packed latents of all views, as many at once as memory allows."""
        reference = self._reference_inputs(latents)
        begin, size = 0, self._micro_batch or self._views_at_once(len(yaws), latents)
        while begin < len(yaws):
            try:
                tokens = self._denoise(
                    reference, yaws[begin : begin + size], seeds[begin : begin + size]
                )
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
            else:
                yield tokens
                begin += size
                continue
            size = self._micro_batch = max(1, size // 2)
            log.warning("out of GPU memory: %d views at once from now on", size)
            torch.cuda.empty_cache()  # here, because above the traceback holds the failed batch

    def _views_at_once(self, views: int, latents: torch.Tensor) -> int:
        tokens = self._embeddings.length + 2 * latents.shape[-1] * latents.shape[-2] // 4
        return _fitting(self._pipe.transformer, tokens, views, latents.device)

    def _reference_inputs(self, latents: torch.Tensor) -> dict[str, Any]:
        """Return what shows the reference to the pipeline; of two passes, the first runs here."""
        if self._reference_kv is None:
            return {"image": latents}
        tokens = vae.pack(latents)
        ids = vae.position_ids(latents.shape[-1] // 2, 1, tokens)
        with self._steps("reference"):
            self._reference_kv.compute(tokens, ids)
        return {"joint_attention_kwargs": USE}

    def _denoise(
        self, reference: dict[str, Any], yaws: Sequence[int], seeds: Sequence[int]
    ) -> torch.Tensor:
        """Denoise a micro-batch; its noise is drawn on the CPU, where a seed means the same."""
        tokens, pooled = self._embeddings.batch(yaws)
        side = self._resolution
        with self._steps("views"):
            result: torch.Tensor = self._pipe(
                prompt_embeds=tokens,
                pooled_prompt_embeds=pooled,
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
                num_inference_steps=self._settings.denoising_steps,
                guidance_scale=self._settings.guidance,
                height=side,
                width=side,
                max_area=side * side,
                _auto_resize=False,
                output_type="latent",
                return_dict=False,
                **reference,
            )[0]
        return result

    @contextmanager
    def _steps(self, name: str) -> Iterator[None]:
        """Surrounds calls of the transformer that belong together, where steps are left out."""
        transformer = self._pipe.transformer
        if not transformer.is_cache_enabled:
            yield
            return
        transformer._reset_stateful_cache()  # what the last views' steps were is nothing to these
        with transformer.cache_context(name):
            yield


def speed_up(transformer: Any, settings: FluxSettings, device: torch.device) -> None:
    """Choose the attention kernel, leave steps out, compile the blocks, as the settings have it.

    Raises UserError for unknown kernels.
    """
    chosen_set = SPEEDS[settings.speed]
    if not chosen_set.tuned:
        return
    use_attention(transformer, settings.attention or best_attention(device, transformer.dtype))
    if chosen_set.step_cache is not None:
        transformer.enable_cache(FirstBlockCacheConfig(threshold=chosen_set.step_cache))
    if settings.compile or (settings.compile is None and device.type == "cuda"):
        compile_blocks(transformer)


def _fuse(transformer: Any, strength: float = 1.0) -> None:
    """Add the adapter that is loaded, if one is, to the weights."""
    if getattr(transformer, "peft_config", None):
        transformer.fuse_lora(lora_scale=strength)
        transformer.unload_lora()


def _fitting(model: Any, tokens: int, views: int, device: torch.device) -> int:
    """Count how many of `views` fit into free memory together, at `tokens` tokens each."""
    if device.type != "cuda":
        return views
    config = model.config
    width = config.num_attention_heads * config.attention_head_dim
    need = tokens * width * LIVE_FLOATS * model.dtype.itemsize
    free, _ = torch.cuda.mem_get_info(device)
    reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(min(views, max(1, (free + reserved) * 0.9 // need)))


def compile_blocks(transformer: Any, backend: str = "inductor") -> None:
    """Compile the two kinds of blocks, each kind once for all of its blocks.

    Where steps are left out, the decision of the first block breaks its graph.
    """
    whole = not transformer.is_cache_enabled
    transformer.compile_repeated_blocks(fullgraph=whole, backend=backend)
