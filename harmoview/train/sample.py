"""Sample videos during training: a held-out sample's references and caption, made into an mp4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler
from torch import Tensor

from harmoview.data.loader import Batch
from harmoview.model.references import References
from harmoview.pipeline import HarmoViewPipeline
from harmoview.recipes import Recipe
from harmoview.video_file import write_mp4
from lora_engine.training import parallel


class Sampler:
    """Makes the same video after other steps; every worker takes part, the first one writes."""

    def __init__(
        self, base: str, recipe: Recipe, batch: Batch, no_text: Tensor, steps: int, fps: int
    ) -> None:
        """`batch` holds the one sample that is made."""
        self._base, self._recipe, self._batch, self._no_text = base, recipe, batch, no_text
        self._steps, self._fps = steps, fps
        self._vae = AutoencoderKLWan.from_pretrained(base, subfolder="vae", dtype=torch.float32)

    def make(self, path: Path, model: Any, device: torch.device) -> None:
        """Write the video with `model`, which is in evaluation mode."""
        pipeline = HarmoViewPipeline(
            tokenizer=None,
            text_encoder=None,
            vae=self._vae,
            scheduler=UniPCMultistepScheduler.from_pretrained(self._base, subfolder="scheduler"),
            transformer=model,
        )
        pipeline.set_progress_bar_config(disable=True)
        pipeline.set_shift(self._recipe.shift)
        batch, vae = self._batch, self._vae
        frames, height, width = batch.video.shape[2:]
        latents = pipeline(
            prompt_embeds=batch.whole_text().to(device),
            negative_prompt_embeds=self._no_text.to(device),
            height=height * vae.config.scale_factor_spatial,
            width=width * vae.config.scale_factor_spatial,
            num_frames=(frames - 1) * vae.config.scale_factor_temporal + 1,
            num_inference_steps=self._steps,
            guidance_scale=self._recipe.guidance,
            references=References(batch.references, batch.present, batch.features),
            generator=torch.Generator().manual_seed(0),
            output_type="latent",
            latents=None,
        ).frames
        if parallel.rank() == 0:
            vae.to(device)
            video = pipeline._decode(latents.to(torch.float32), "np")[0]
            vae.to("cpu")
            write_mp4(path, np.asarray(np.rint(video * 255), dtype=np.uint8), self._fps)
        parallel.wait_for_all()
