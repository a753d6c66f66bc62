"""`opens2v_smooth`: jumps of a video-quality score from frame to frame (Q-Align's OneAlign)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch

from datapipe.errors import UserError
from datapipe.record import Image

JUMP = 0.025
"""Difference of scores from which both frames are artefacts."""
WINDOW = 3
"""Frames that a score is of: the one before, the frame, the one after."""
BATCH = 8
"""Windows that are scored at a time."""
LEVELS = {"excellent": 1.0, "good": 0.75, "fair": 0.5, "poor": 0.25, "bad": 0.0}
PROMPT = (
    "USER: How would you rate the quality of this video?\n<|image|>\nASSISTANT: "
    "The quality of the video is"
)
IMAGE_TOKEN = -200
"""What mPLUG-Owl2 puts in the place of `<|image|>`."""


def smoothness(scores: npt.ArrayLike) -> float:
    """1 less the share of frames that are on either side of a jump."""
    values = np.asarray(scores, float)
    jumps = np.flatnonzero(np.abs(np.diff(values)) > JUMP)
    return 1 - len(np.union1d(jumps, jumps + 1)) / len(values)


def windows(images: Iterable[Image]) -> Iterator[list[Image]]:
    """Of every frame, three: the first is repeated at the beginning, as OpenS2V-Eval does.

    The last window repeats its first frame, in a video of two frames its last.
    """
    before: Image | None = None
    now: Image | None = None
    count = 0
    for after in images:
        if now is not None:
            yield [now] * WINDOW if before is None else [before, now, after]
            before = now
        now, count = after, count + 1
    if now is not None and before is None:
        yield [now] * WINDOW
    elif now is not None and before is not None:
        yield [before, now, now] if count == 2 else [before, before, now]


class OneAlign:
    """The scorer, by the code that lies with its weights: the user's own, run as it is there."""

    def __init__(self, folder: Path, device: str) -> None:
        """Raises UserError where the folder's code or weights do not load here."""
        from transformers import AutoModelForCausalLM, AutoTokenizer, CLIPImageProcessorPil

        self._device = torch.device(device)
        half = torch.float16 if self._device.type == "cuda" else torch.float32
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=half, trust_remote_code=True
            )
            tokenizer: Any = AutoTokenizer.from_pretrained(folder)
            self._processor: Any = CLIPImageProcessorPil.from_pretrained(folder)
        except (OSError, ValueError, ImportError, AttributeError, TypeError, RuntimeError) as wrong:
            raise UserError(
                f"{folder} does not load as OneAlign ({wrong}). Its code is of transformers 4.36: "
                "where that is the reason, score it in an environment of its own and bring in "
                "motion_smoothness.json with --import"
            ) from wrong
        self._model = loaded.to(self._device).eval()
        self._levels = [int(tokenizer(level)["input_ids"][1]) for level in LEVELS]
        self._weights = torch.tensor(list(LEVELS.values()), dtype=half, device=self._device)
        self._ids = _prompt_ids(tokenizer).to(self._device)
        self._grey = tuple(int(value * 255) for value in self._processor.image_mean)

    def __call__(self, images: Iterable[Image]) -> list[float]:
        """A score for every frame, 0 bad to 1 excellent."""
        scores: list[float] = []
        batch: list[list[Image]] = []
        for window in windows(images):
            batch.append(window)
            if len(batch) == BATCH:
                scores += self._score(batch)
                batch = []
        return scores + (self._score(batch) if batch else [])

    @torch.inference_mode()
    def _score(self, batch: Sequence[Sequence[Image]]) -> list[float]:
        tensors = [
            self._processor.preprocess(
                [_square(image, self._grey) for image in window], return_tensors="pt"
            )["pixel_values"]
            .to(self._weights.dtype)
            .to(self._device)
            for window in batch
        ]
        output = self._model(self._ids.repeat(len(tensors), 1), images=tensors)
        logits = output["logits"][:, -1, self._levels]
        return [float(value) for value in torch.softmax(logits, -1) @ self._weights]


def _prompt_ids(tokenizer: Any) -> torch.Tensor:
    """The prompt with the picture's token in its place, one start token in all."""
    first, last = (tokenizer(part)["input_ids"] for part in PROMPT.split("<|image|>"))
    start = [tokenizer.bos_token_id] if first[:1] == [tokenizer.bos_token_id] else []
    return torch.tensor([[*first, IMAGE_TOKEN, *last[len(start) :]]])


def _square(image: Image, grey: tuple[int, ...]) -> PIL.Image.Image:
    """The picture in the middle of a square of the processor's mean colour."""
    picture = PIL.Image.fromarray(image)
    side = max(picture.size)
    square = PIL.Image.new("RGB", (side, side), grey)
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square
