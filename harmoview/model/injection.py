"""Multi-level Feature Injection (MFI): ViT patch features of frontal references beside the text."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from datapipe.record import Image
from harmoview.media import square

QWEN_LAYER = 15
"""The block of the 32 of Qwen2.5-VL's vision tower after which features are taken.

MFI is there for low-level appearance, which later blocks trade for semantics; so it is not the last
one. Block 15 is the second of the four with full attention (7, 15, 23, 31), so every patch has seen
the whole face. It was chosen by this argument: the paper names none, and no training compared them.
"""
QWEN_SIZE = 448
"""Side in pixels of the picture: 32 x 32 patches make 256 tokens, half of the text's 512."""
QWEN_DIM = 4 * 1280
"""Four patches make a token. The towers of Qwen2.5-VL of every size are 1280 wide."""


def join(text: Tensor, image: Tensor | None, present: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the condition of the cross-attention, [image, text] as in Wan, and its mask or None.

    `image` is [B, I, N, D], `present` [B, I]. Absent references contribute no tokens: they are cut
    out where all samples of the batch lack them, which keeps every attention kernel usable, and
    masked out where some do. Even so they stay in the graph, so that all ranks have a gradient.
    """
    if image is None:
        return text, None
    kept = present.any(dim=0).nonzero().flatten()
    condition = torch.cat([image[:, kept].flatten(1, 2), text], dim=1)
    shown = present[:, kept]
    if bool(shown.all()):
        return condition, None
    mask = shown.repeat_interleave(image.shape[2], dim=1)
    mask = torch.cat([mask, mask.new_ones(text.shape[:2])], dim=1)
    return condition, mask[:, None, None]


def fingerprint(tower: Any) -> str:
    """Return a hash of a tower's first and last layer, 16 hex digits, to know its weights again.

    All towers of Qwen2.5-VL are equally wide, so the features of another one would pass unnoticed.
    The precision in which the weights were loaded makes no difference.
    """
    digest = hashlib.sha256()
    for part in (tower.patch_embed, tower.blocks[-1]):
        for value in part.parameters():
            rounded = value.detach().to("cpu", torch.bfloat16).contiguous()
            digest.update(rounded.view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


class FrontalEncoder(nn.Module):
    """The frozen vision tower, cut off after one of its blocks.

    A token is a group of 2 x 2 patches side by side, as in the tower's own merger: a quarter of the
    tokens without loss, so that they do not drown the text. Each patch is scaled to unit mean
    square, because the residual stream has outliers of many times that.
    """

    def __init__(self, tower: Any, layer: int = QWEN_LAYER, size: int = QWEN_SIZE) -> None:
        """Cuts a `Qwen2_5_VisionTransformerPretrainedModel` off after block `layer`.

        Raises ValueError where it has no such block, or `size` is no multiple of a group's pixels.
        """
        super().__init__()
        config = tower.config
        if not 0 <= layer < len(tower.blocks):
            raise ValueError(f"layer {layer} of a vision tower with {len(tower.blocks)} blocks")
        step = config.patch_size * config.spatial_merge_size
        if size % step:
            raise ValueError(f"vit_size {size} is not a multiple of {step} pixels")
        tower.blocks = tower.blocks[: layer + 1]
        self.tower = tower.eval().requires_grad_(False)
        self.fingerprint = fingerprint(tower)
        """The fingerprint of the tower as far as it is used."""
        self.size = size
        self.group = config.spatial_merge_size**2
        self.dim = self.group * config.hidden_size

    @torch.no_grad()
    def forward(self, images: Sequence[Image]) -> Tensor:
        """Return features [pictures, tokens, dim] of the pictures' middle squares.

        They have the tower's dtype and the order of its windows: attention to a set of keys does
        not see in which order they are.
        """
        pictures = [square(picture, self.size) for picture in images]
        inputs = self._processor()(pictures, return_tensors="pt")
        weight = self.tower.patch_embed.proj.weight
        hidden = self.tower(
            inputs["pixel_values"].to(weight), grid_thw=inputs["image_grid_thw"].to(weight.device)
        ).last_hidden_state
        hidden = F.rms_norm(hidden.float(), hidden.shape[-1:]).to(weight.dtype)
        return hidden.reshape(len(images), -1, self.dim)

    def _processor(self) -> Any:
        # the PIL variant, so that features do not depend on whether torchvision is installed
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
            Qwen2VLImageProcessorPil,
        )

        config = self.tower.config
        return Qwen2VLImageProcessorPil(
            do_resize=False,
            patch_size=config.patch_size,
            merge_size=config.spatial_merge_size,
            temporal_patch_size=config.temporal_patch_size,
        )
