"""GME, a Qwen2-VL that embeds pictures and texts: `opens2v_gme`, and a part of Nexus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from datapipe.errors import UserError
from datapipe.record import Image

FACTOR = 28
"""Pixels of a token's side."""
LEAST, MOST = 256, 1280
"""Tokens of a picture."""
LEAST_FIRST, MOST_FIRST = 4, 16384
"""Tokens to which the picture is brought before, as GME's own code does."""
LONGEST = 1800
"""Tokens of a text."""
QUERY = "Find an image that matches the given text."
CORPUS = "You are a helpful assistant."
_PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"


class Gme:
    """Unit embeddings of pictures and of texts in one space."""

    def __init__(self, folder: Path, device: str) -> None:
        """Raises UserError where the folder holds no Qwen2-VL."""
        from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration
        from transformers import Qwen2VLImageProcessorPil as Processor

        self._device = torch.device(device)
        half = torch.float16 if self._device.type == "cuda" else torch.float32
        try:
            loaded: Any = Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=half)
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
            self._processor: Any = Processor.from_pretrained(
                folder, min_pixels=LEAST * FACTOR**2, max_pixels=MOST * FACTOR**2
            )
        except (OSError, ValueError) as wrong:
            raise UserError(f"{folder} is no Qwen2-VL with its tokenizer: {wrong}") from wrong
        self._model = loaded.model.to(self._device).eval()
        self._pad = int(loaded.config.image_token_id)
        self._merge = int(loaded.config.vision_config.spatial_merge_size) ** 2

    @torch.no_grad()
    def text(self, words: str, instruction: str = QUERY) -> Tensor:
        """(dimensions,), unit."""
        return self._embed(self._ids(words, instruction), None, None)

    @torch.no_grad()
    def picture(self, image: Image) -> Tensor:
        """(dimensions,), unit."""
        inputs = self._processor(images=[_resized(image)], return_tensors="pt")
        grid = inputs["image_grid_thw"]
        tokens = int(grid.prod()) // self._merge
        words = _PICTURE.replace("<|image_pad|>", "<|image_pad|>" * tokens)
        return self._embed(self._ids(words, CORPUS), inputs["pixel_values"], grid)

    def _ids(self, words: str, instruction: str) -> Tensor:
        prompt = (
            f"<|im_start|>system\n{instruction}<|im_end|>\n<|im_start|>user\n{words}<|im_end|>\n"
            "<|im_start|>assistant\n<|endoftext|>"
        )
        ids = self._tokenizer(
            prompt,
            truncation=True,
            max_length=LONGEST,
            return_tensors="pt",
            return_attention_mask=False,
        )["input_ids"]
        return torch.as_tensor(ids).to(self._device)

    def _embed(self, ids: Tensor, pixels: Tensor | None, grid: Tensor | None) -> Tensor:
        """The last token's last hidden state, scaled to length 1.

        Positions are counted one by one through text and picture, as in GME's own code.
        """
        model = self._model
        inputs = model.get_input_embeddings()(ids)
        if pixels is not None and grid is not None:
            seen = model.visual(
                pixels.to(inputs.dtype).to(self._device), grid_thw=grid.to(self._device)
            )
            flat = getattr(seen, "pooler_output", seen)
            inputs = inputs.masked_scatter((ids == self._pad)[..., None], flat.to(inputs.dtype))
        hidden = model.language_model(
            inputs_embeds=inputs, attention_mask=torch.ones_like(ids)
        ).last_hidden_state
        return torch.nn.functional.normalize(hidden[0, -1].float(), dim=0).cpu()


def _resized(image: Image) -> PIL.Image.Image:
    """Sides that are multiples of 28, within GME's own first bounds."""
    picture = PIL.Image.fromarray(image)
    width, height = smart_size(*picture.size)
    return picture.resize((width, height))


def smart_size(width: int, height: int) -> tuple[int, int]:
    """Qwen2-VL's sizes: multiples of 28 near the picture's own, from 4 to 16,384 tokens."""
    low, high = LEAST_FIRST * FACTOR**2, MOST_FIRST * FACTOR**2

    def to(value: float, how: Any) -> int:
        return int(how(value / FACTOR)) * FACTOR

    w, h = (max(FACTOR, to(side, round)) for side in (width, height))
    if w * h > high:
        scale = np.sqrt(width * height / high)
        w, h = to(width / scale, np.floor), to(height / scale, np.floor)
    elif w * h < low:
        scale = np.sqrt(low / (width * height))
        w, h = to(width * scale, np.ceil), to(height * scale, np.ceil)
    return w, h
