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
    """Make pixels (1, 3, resolution, resolution), -1..1, of a picture.

    Training and synthesis share this resizing.
    """
    picture = Pillow.fromarray(image)
    size = _PROCESSOR.resize(picture, resolution, resolution)
    tensor: torch.Tensor = _PROCESSOR.preprocess(size, resolution, resolution)
    return tensor


def encode(vae: Any, batch: torch.Tensor) -> torch.Tensor:
    """Encode pixels as normalised latents (B, C, h, w), the mode of their distribution."""
    with torch.no_grad():
        latents: torch.Tensor = vae.encode(batch.to(vae.device, vae.dtype)).latent_dist.mode()
    normalised: torch.Tensor = (latents - vae.config.shift_factor) * vae.config.scaling_factor
    return normalised


def decode(vae: Any, tokens: torch.Tensor, resolution: int) -> torch.Tensor:
    """Decode a view's packed latents (1, S, 4C) to (1, 3, resolution, resolution), 0..1.

    The result is on the CPU.
    """
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    latents = FluxKontextPipeline._unpack_latents(tokens, resolution, resolution, factor)
    latents = latents / vae.config.scaling_factor + vae.config.shift_factor
    with torch.no_grad():
        pixels: torch.Tensor = _PROCESSOR.denormalize(vae.decode(latents, return_dict=False)[0])
    return pixels.cpu()


def picture(pixels: torch.Tensor) -> Image:
    """Make a picture of what `decode` gives, rounded as the stock pipeline rounds."""
    return np.asarray(_PROCESSOR.numpy_to_pil(_PROCESSOR.pt_to_numpy(pixels))[0])


def pack(latents: torch.Tensor) -> torch.Tensor:
    """Pack latents (B, C, h, w) to tokens (B, h/2 * w/2, 4C)."""
    tokens: torch.Tensor = FluxKontextPipeline._pack_latents(latents, *latents.shape)
    return tokens


def position_ids(side: int, slot: int, like: torch.Tensor) -> torch.Tensor:
    """Return ids (side², 3) of side × side tokens; slot 0 is the target, 1 the reference."""
    ids: torch.Tensor = FluxKontextPipeline._prepare_latent_image_ids(
        1, side, side, like.device, like.dtype
    )
    ids[..., 0] = slot
    return ids
