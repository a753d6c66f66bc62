"""Sample videos during training, made from a held-out sample's references and caption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler
from torch import Tensor

from harmoview.attention import use_best_attention
from harmoview.checkpoint import is_trained, load_expert
from harmoview.data.loader import EncodedBatch
from harmoview.load import boundary_of
from harmoview.media import write_mp4
from harmoview.model.references import References
from harmoview.model.weights import load_wan
from harmoview.pipeline import HarmoViewPipeline
from harmoview.recipes import Recipe
from harmoview.train.expert_phase import MODELS, ExpertPhase
from harmoview.train.settings import TrainSettings
from harmoview.train.sharded import shard
from training import parallel
from training.device import free_memory


class Sampler:
    """Makes the same video again and again; every worker takes part, and the first one writes.

    A14B needs its other expert for that, which is loaded, shared out over the workers like the one
    that learns, and dropped again. It is the one that this run has exported, else that of
    `settings.sample_with`, else the base's own, which does not see the references.
    """

    def __init__(
        self,
        settings: TrainSettings,
        exported: Path,
        recipe: Recipe,
        batch: EncodedBatch,
        no_text: Tensor,
        fps: int,
    ) -> None:
        """Prepares for the one sample of `batch`."""
        self._settings, self._recipe, self._fps = settings, recipe, fps
        self._trained = [exported, *filter(None, [settings.sample_with])]
        self._batch, self._no_text = batch, no_text
        self._boundary = boundary_of(settings.base)
        self._vae = AutoencoderKLWan.from_pretrained(
            settings.base, subfolder="vae", dtype=torch.float32
        )

    def make(
        self, path: Path, model: Any, part: ExpertPhase, device: torch.device, dtype: torch.dtype
    ) -> None:
        """Write the video with `model`, which is in evaluation mode."""
        models = {part.model: model}
        if part.expert is not None:
            name = MODELS["low" if part.expert == "high" else "high"]
            models[name] = self._other(name, device, dtype)
        pipeline = HarmoViewPipeline(
            tokenizer=None,
            text_encoder=None,
            vae=self._vae,
            scheduler=UniPCMultistepScheduler.from_pretrained(
                self._settings.base, subfolder="scheduler"
            ),
            boundary_ratio=self._boundary,
            **models,
        )
        pipeline.set_progress_bar_config(disable=True)
        pipeline.set_shift(self._recipe.shift)
        latents = self._latents(pipeline, device)
        del pipeline, models
        free_memory(device)
        if parallel.rank() == 0:
            self._write(path, latents, device)
        parallel.wait_for_all()

    def _other(self, name: str, device: torch.device, dtype: torch.dtype) -> Any:
        """Load the expert that is not learning."""
        base = self._settings.base
        folder = next((one for one in self._trained if is_trained(one, name)), None)
        other = (
            load_wan(base, name, dtype)
            if folder is None
            else load_expert(folder, base, name, dtype)
        )
        other.requires_grad_(False).eval()
        use_best_attention(other, device, dtype)
        shard(other, device, dtype)
        return other

    def _latents(self, pipeline: HarmoViewPipeline, device: torch.device) -> Tensor:
        batch, config = self._batch, self._vae.config
        frames, height, width = batch.video.shape[2:]
        latents: Tensor = pipeline(
            prompt_embeds=batch.whole_text().to(device),
            negative_prompt_embeds=self._no_text.to(device),
            height=height * config.scale_factor_spatial,
            width=width * config.scale_factor_spatial,
            num_frames=(frames - 1) * config.scale_factor_temporal + 1,
            num_inference_steps=self._settings.sample_steps,
            guidance_scale=self._recipe.guidance,
            guidance_scale_2=self._recipe.guidance_low,
            references=References(batch.references, batch.present, batch.features),
            generator=torch.Generator().manual_seed(0),
            output_type="latent",
        ).frames
        return latents

    def _write(self, path: Path, latents: Tensor, device: torch.device) -> None:
        self._vae.to(device)
        pipeline = HarmoViewPipeline(None, None, self._vae, None)
        video = pipeline._decode(latents.to(torch.float32), "np")[0]
        self._vae.to("cpu")
        write_mp4(path, np.asarray(np.rint(video * 255), dtype=np.uint8), self._fps)
