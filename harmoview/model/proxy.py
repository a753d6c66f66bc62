"""What stands in the references' slots: a view's patches, or what takes an absent one's place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def blank_absent(latents: Tensor, mask: Tensor) -> Tensor:
    """Zero the latents of absent slots, whatever they hold: a NaN there must not reach a gradient.

    `latents` [B, I, V, C, h, w], `mask` [B, I, V], True where the view is present.
    """
    return latents.masked_fill(~mask[..., None, None, None], 0.0)


def fill_gray(latents: Tensor, mask: Tensor, gray: Sequence[float]) -> Tensor:
    """Put the latent of mid-grey, one number a channel, into every place of an absent slot."""
    color = torch.tensor(gray, dtype=latents.dtype, device=latents.device)[:, None, None]
    return torch.where(mask[..., None, None, None], latents, color)


def patchify(latents: Tensor, patch_embedding: Callable[[Tensor], Tensor]) -> Tensor:
    """Embed every view as a clip of one frame: [B, I, V, C, h, w] -> [B, I, V, patches, D]."""
    slots = latents.shape[:3]
    embedded = patch_embedding(latents.flatten(0, 2).unsqueeze(2))  # [B*I*V, D, 1, h', w']
    tokens = embedded.flatten(2).transpose(1, 2)
    return tokens.reshape(*slots, *tokens.shape[1:])


def fill_proxy(tokens: Tensor, mask: Tensor, proxy: Tensor) -> Tensor:
    """Replicate the proxy token [D] over every patch of an absent slot (paper, 3.1.2)."""
    return torch.where(mask[..., None, None], tokens, proxy.to(tokens.dtype))
