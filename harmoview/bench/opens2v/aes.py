"""`opens2v_aes`: LAION's aesthetic head on CLIP's picture embedding, the mean of 32 frames."""

from __future__ import annotations

import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datapipe.errors import UserError
from datapipe.record import Image

WIDTHS = (768, 1024, 128, 64, 16, 1)
PLACES = (0, 2, 4, 6, 7)
"""Where the layers stand in the file: dropout, which does nothing here, is counted between."""


class AestheticHead(nn.Module):
    """Five linear layers without activations between them."""

    def __init__(self) -> None:
        super().__init__()
        layers = zip(PLACES, pairwise(WIDTHS), strict=True)
        named = {str(place): nn.Linear(*widths) for place, widths in layers}
        self.layers = nn.ModuleDict(named)

    def forward(self, embedding: Tensor) -> Tensor:
        """(n, 768) to (n,)."""
        for place in PLACES:
            embedding = self.layers[str(place)](embedding)
        return embedding.squeeze(1)


class Aesthetic:
    """The whole scorer."""

    def __init__(self, clip: Path, head: Path, device: str) -> None:
        """Raises UserError where a file does not hold what it should."""
        from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

        self._device = torch.device(device)
        try:
            self._clip: Any = CLIPVisionModelWithProjection.from_pretrained(clip)
            self._processor: Any = CLIPImageProcessorPil.from_pretrained(clip)
        except (OSError, ValueError) as wrong:
            raise UserError(f"{clip} is no CLIP vision model: {wrong}") from wrong
        self._head = AestheticHead()
        load_state(self._head, head)
        self._clip.to(self._device).eval()
        self._head.to(self._device).eval()

    @torch.no_grad()
    def __call__(self, images: list[Image]) -> list[float]:
        """One score a picture; LAION's scale, about 4 to 7."""
        pixels = self._processor(images=images, return_tensors="pt")["pixel_values"]
        embedding = self._clip(pixel_values=pixels.to(self._device)).image_embeds
        unit = embedding / torch.linalg.vector_norm(embedding, dim=-1, keepdim=True)
        return [float(value) for value in self._head(unit)]


def load_state(model: nn.Module, path: Path) -> None:
    """Load a file of weights into a model. Raises UserError where they do not fit."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state)
    except (RuntimeError, pickle.UnpicklingError, OSError, TypeError, AttributeError) as wrong:
        first = str(wrong).splitlines()[0] if str(wrong) else type(wrong).__name__
        raise UserError(f"{path} does not hold these weights: {first}") from wrong
