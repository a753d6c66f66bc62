"""Pictures to latents and back, and latents to tokens, in the stock pipeline's arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import FluxKontextPipeline
from diffusers.image_processor import VaeImageProcessor
from PIL import Image as Pillow

from datapipe.record import Image

_PROCESSOR = VaeImageProcessor()


def pixels(image: Image, resolution: int) -> torch.Tensor:
    """(1, 3, resolution, resolution) in -1..1. Training and synthesis share this one resizing."""
    picture = Pillow.fromarray(image)
    size = _PROCESSOR.resize(picture, resolution, resolution)
    tensor: torch.Tensor = _PROCESSOR.preprocess(size, resolution, resolution)
    return tensor


def encode(vae: Any, batch: torch.Tensor) -> torch.Tensor:
    """Normalised latents (B, C, h, w) of pixels, the distribution's mode."""
    with torch.no_grad():
        latents: torch.Tensor = vae.encode(batch.to(vae.device, vae.dtype)).latent_dist.mode()
    normalised: torch.Tensor = (latents - vae.config.shift_factor) * vae.config.scaling_factor
    return normalised


def decode(vae: Any, tokens: torch.Tensor, resolution: int) -> torch.Tensor:
    """(1, 3, resolution, resolution) in 0..1, on the CPU, of a view's packed latents (1, S, 4C)."""
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    latents = FluxKontextPipeline._unpack_latents(tokens, resolution, resolution, factor)
    latents = latents / vae.config.scaling_factor + vae.config.shift_factor
    with torch.no_grad():
        pixels: torch.Tensor = _PROCESSOR.denormalize(vae.decode(latents, return_dict=False)[0])
    return pixels.cpu()


def picture(pixels: torch.Tensor) -> Image:
    """The picture of `decode`'s pixels, rounded as the stock pipeline does."""
    return np.asarray(_PROCESSOR.numpy_to_pil(_PROCESSOR.pt_to_numpy(pixels))[0])


def pack(latents: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) to tokens (B, h/2 * w/2, 4C)."""
    tokens: torch.Tensor = FluxKontextPipeline._pack_latents(latents, *latents.shape)
    return tokens


def position_ids(side: int, slot: int, like: torch.Tensor) -> torch.Tensor:
    """Ids (side², 3) of side × side tokens. Slot 0: the target; 1: the reference."""
    ids: torch.Tensor = FluxKontextPipeline._prepare_latent_image_ids(
        1, side, side, like.device, like.dtype
    )
    ids[..., 0] = slot
    return ids
