"""Pictures of identities as the transformer takes them, and what stands in the slots it lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from datapipe.record import Image
from harmoview.media import square
from harmoview.model.injection import FrontalEncoder
from harmoview.model.layout import ReferenceLayout

Views = Mapping[int, Image]
"""The pictures of one identity, any number of them, by yaw in degrees; 0 is the frontal one."""


@dataclass(frozen=True)
class References:
    """The identities of a batch, encoded."""

    latents: Tensor
    """[B, identities, views, C, h, w], normalised."""
    mask: Tensor
    """[B, identities, views], True where a view is present."""
    features: Tensor | None = None
    """[B, identities, tokens, vit_dim], of the frontal views; None for a model without MFI."""

    def absent(self) -> References:
        """Return the null reference of guidance: the same layout, with every view absent."""
        return replace(self, mask=torch.zeros_like(self.mask))

    def repeat(self, batch: int) -> References:
        """Repeat the references for a batch. Raises ValueError where it is not a multiple."""
        times, rest = divmod(batch, len(self.mask))
        if rest or not times:
            raise ValueError(f"references of {len(self.mask)} samples for a batch of {batch}")
        features = self.features
        return References(
            self.latents.repeat_interleave(times, dim=0),
            self.mask.repeat_interleave(times, dim=0),
            None if features is None else features.repeat_interleave(times, dim=0),
        )

    def inputs(self, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor | None]:
        """Return the keyword arguments for the transformer's forward."""
        features = self.features
        return {
            "reference_latents": self.latents.to(device, dtype),
            "reference_mask": self.mask.to(device),
            "encoder_hidden_states_image": None if features is None else features.to(device, dtype),
        }


@torch.no_grad()
def encode_references(
    vae: Any,
    frontal_encoder: FrontalEncoder | None,
    identities: Sequence[Views],
    layout: ReferenceLayout,
    size: int,
    device: torch.device,
) -> References:
    """Encode the identities of one sample, each view as a clip of one frame of `size` pixels.

    The result has a batch of 1. Raises ValueError as `check_identities` does.
    """
    check_identities(identities, layout)
    mask = torch.tensor([[yaw in views for yaw in layout.yaws] for views in identities])
    pictures = [views[yaw] for views in identities for yaw in layout.yaws if yaw in views]
    encoded = torch.cat([normalized_latents(vae, _clip(p, size).to(device)) for p in pictures])
    latents = encoded.new_zeros(*mask.shape, *encoded.shape[1:2], *encoded.shape[3:])
    latents[mask.to(device)] = encoded[:, :, 0]
    features = None
    if frontal_encoder is not None:
        features = _features(frontal_encoder.to(device), identities)
        frontal_encoder.to("cpu")  # it is used once, and the video model needs the memory
    return References(latents[None], mask[None].to(device), features)


def check_identities(identities: Sequence[Views], layout: ReferenceLayout) -> None:
    """Check that identities fit the slots.

    Raises ValueError for none or too many, one without views, or a yaw without a slot.
    """
    if not 1 <= len(identities) <= layout.identities:
        raise ValueError(f"{len(identities)} identities, the model takes 1..{layout.identities}")
    for index, views in enumerate(identities):
        if not views:
            raise ValueError(f"identity {index} has no view")
        if unknown := sorted(set(views) - set(layout.yaws)):
            raise ValueError(
                f"identity {index} has views at yaws {unknown}; the model's are {layout.yaws}"
            )


@torch.no_grad()
def normalized_latents(vae: Any, video: Tensor) -> Tensor:
    """Encode `video` [B, 3, F, H, W], -1..1, as Wan's transformer expects it: [B, C, F', h, w].

    The latents are the mode of the VAE's, as (z - mean) / std in float32. A clip of one frame gives
    the first latent frame of any clip that starts with it, so a picture is such a clip.
    """
    z = vae.encode(video.to(vae.dtype)).latent_dist.mode().float()
    mean, std = (
        torch.tensor(values, device=z.device).view(1, -1, 1, 1, 1)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    latents: Tensor = (z - mean) / std
    return latents


def _clip(picture: Image, size: int) -> Tensor:
    """Make a clip of one frame, [1, 3, 1, size, size], -1..1."""
    pixels = torch.from_numpy(square(picture, size)).permute(2, 0, 1)
    return (pixels.float() / 127.5 - 1)[None, :, None]


def _features(encoder: FrontalEncoder, identities: Sequence[Views]) -> Tensor | None:
    """Encode the frontal views: [1, identities, tokens, dim]; None where nobody has one.

    An identity without a frontal view has zeros, which are never attended.
    """
    frontal = [index for index, views in enumerate(identities) if 0 in views]
    if not frontal:
        return None
    found = encoder([identities[index][0] for index in frontal])
    features: Tensor = found.new_zeros(len(identities), *found.shape[1:])
    features[frontal] = found
    return features[None]


def blank_absent(latents: Tensor, mask: Tensor) -> Tensor:
    """Zero the latents of absent slots, because a NaN in one must not reach a gradient.

    `latents` is [B, I, V, C, h, w], `mask` [B, I, V], True where the view is present.
    """
    return latents.masked_fill(~mask[..., None, None, None], 0.0)


def fill_gray(latents: Tensor, mask: Tensor, gray: Sequence[float]) -> Tensor:
    """Put the latent of mid-grey, a number for each channel, all over every absent slot."""
    color = torch.tensor(gray, dtype=latents.dtype, device=latents.device)[:, None, None]
    return torch.where(mask[..., None, None, None], latents, color)


def patchify(latents: Tensor, patch_embedding: Callable[[Tensor], Tensor]) -> Tensor:
    """Embed every view as a clip of one frame: [B, I, V, C, h, w] to [B, I, V, patches, D]."""
    slots = latents.shape[:3]
    embedded = patch_embedding(latents.flatten(0, 2).unsqueeze(2))  # [B*I*V, D, 1, h', w']
    tokens = embedded.flatten(2).transpose(1, 2)
    return tokens.reshape(*slots, *tokens.shape[1:])


def fill_proxy(tokens: Tensor, mask: Tensor, proxy: Tensor) -> Tensor:
    """Put the proxy token [D] into every patch of every absent slot (paper, 3.1.2)."""
    return torch.where(mask[..., None, None], tokens, proxy.to(tokens.dtype))
