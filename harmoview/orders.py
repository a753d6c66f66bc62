"""Orders: videos to be made, and how a model is sampled for them. Needs no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from datapipe.errors import UserError, check_range
from harmoview.identity import read_identity

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SIZES = ("height", "width", "frames", "fps")


@dataclass(frozen=True)
class Sampling:
    """How a model is sampled; the defaults are those of the makers of the base."""

    vit: str = "none"
    """The Qwen2.5-VL vision tower, a folder or a hub name; none for a model without MFI."""
    lora: tuple[str, ...] = ()
    """More Wan LoRA files, for the (high-noise) transformer; what was trained stays in use."""
    lora_low: tuple[str, ...] = ()
    """The same for the low-noise expert of A14B."""
    negative_prompt: str | None = None
    """What to avoid in the video; the default is Wan's own."""
    steps: int | None = None
    """Denoising steps; the default is 40 for A14B, else 50."""
    guidance: float | None = None
    """Guidance scale of the text, for the high-noise expert where there are two; the default is 4
    for A14B, 5 for TI2V-5B, 6 for 1.3B."""
    guidance_low: float | None = None
    """Guidance scale of the text for the low-noise expert of A14B; the default is 3."""
    reference_scale: float | None = None
    """Guidance scale of the references; the default is the text's, which saves a third of the
    time."""
    shift: float | None = None
    """Shift of the noise levels; the default is 12 for A14B, 5 for TI2V-5B, 8 for 1.3B."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """auto is the GPU if there is one."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of transformer, text encoder and vision tower; the VAE works in float32."""
    offload: Literal["none", "model", "sequential"] = "none"
    """Keep on the GPU only the model in use, or only the layer in use."""
    tiling: bool = False
    """Decode the video in tiles, for less memory."""

    def __post_init__(self) -> None:
        check_range(self, "steps", least=1)


@dataclass(frozen=True)
class Order:
    """One video."""

    name: str
    """Of its files, without an ending."""
    prompt: str
    pictures: tuple[Mapping[int, bytes], ...]
    """JPEG by yaw, of one or two people."""
    seed: int = 0
    height: int | None = None
    """Pixels; the default follows the base, as do the others."""
    width: int | None = None
    frames: int | None = None
    fps: int | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    """More for the JSON beside the video."""


def read_orders(path: Path) -> list[Order]:
    """A JSONL file: `name`, `prompt`, `identities` (as --identity takes them), and if wanted
    `seed`, `height`, `width`, `frames`, `fps`. Raises UserError naming the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as wrong:
        raise UserError(f"--prompts {path}: {wrong}") from wrong
    orders: list[Order] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                orders.append(_order(json.loads(line)))
            except (ValueError, UserError) as wrong:
                raise UserError(f"--prompts {path}, line {number}: {wrong}") from wrong
    if not orders:
        raise UserError(f"--prompts {path} holds no prompt")
    names = [order.name for order in orders]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"--prompts {path}: two videos would be called {twice[0]}")
    return orders


def _order(data: Any) -> Order:
    known = {"name", "prompt", "identities", "seed", *_SIZES}
    if not isinstance(data, dict) or (set(data) - known):
        raise ValueError(f"a JSON object of {', '.join(sorted(known))}, not {data!r}"[:200])
    name, prompt, sources = data.get("name"), data.get("prompt"), data.get("identities")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"name {name!r} must be of letters, digits, . _ and -")
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError("prompt is missing")
    texts = [one for one in sources if isinstance(one, str)] if isinstance(sources, list) else []
    if not 1 <= len(texts) <= 2 or texts != sources:
        raise ValueError("identities must be a list of one or two folders, pictures or SHARDS::KEY")
    numbers = {key: data[key] for key in ("seed", *_SIZES) if data.get(key) is not None}
    if wrong := [key for key, value in numbers.items() if type(value) is not int or value < 0]:
        raise ValueError(f"{wrong[0]} must be a whole number, not {numbers[wrong[0]]!r}")
    pictures = tuple(read_identity(source) for source in texts)
    return Order(name=name, prompt=prompt, pictures=pictures, **numbers)
