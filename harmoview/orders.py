"""Orders: videos to be made, and how a model is sampled for them. Needs no torch."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from datapipe.errors import UserError, check_range
from datapipe.files import Folder
from harmoview.identity import read_identity

NAME = re.compile(r"[^\W_][\w.-]*")
LARGEST_SEED = 2**63 - 1
"""torch takes no larger one."""
SIZES = ("height", "width", "frames", "fps")
_WHERE = ("device", "offload", "tiling")
"""Parts of `Sampling` that say how a video is computed, not what it shows."""


@dataclass(frozen=True)
class Sampling:
    """How a model is sampled; the defaults are those of the makers of the base."""

    vit: str = "none"
    """The Qwen2.5-VL vision tower, a folder or a hub name; none for a model without MFI."""
    lora: tuple[str, ...] = ()
    """More Wan LoRA files, for the (high-noise) transformer, FILE@0.5 at half strength; what was
    trained stays in use."""
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
    reference_kv: bool | None = None
    """Send the references through the model once a video and not at every step; the default is the
    way in which the model was trained, and False needs less memory."""
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
        check_range(self, "shift", above=0, under=math.inf)
        for name in ("guidance", "guidance_low", "reference_scale"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"--{name.replace('_', '-')} must be a number, not {value}")


@dataclass(frozen=True)
class Order:
    """One video."""

    name: str
    """Of its files, without an ending."""
    prompt: str
    pictures: tuple[Mapping[int, bytes], ...]
    """Picture files by yaw, of one or two people."""
    people: tuple[str, ...] = ()
    """What each of them is called, a folder or file for example."""
    seed: int = 0
    height: int | None = None
    """Pixels; the default follows the base, as do the others."""
    width: int | None = None
    frames: int | None = None
    fps: int | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    """More for the JSON beside the video."""


def made_by(base: str, checkpoint: Path, sampling: Sampling) -> dict[str, Any]:
    """Return what decides, beside an order, what a video shows, as it was asked for."""
    asked = {key: value for key, value in asdict(sampling).items() if key not in _WHERE}
    found: dict[str, Any] = json.loads(
        json.dumps({"base": base, "checkpoint": str(checkpoint), **asked})
    )
    return found


def hashes(pictures: Sequence[Mapping[int, bytes]]) -> list[dict[str, str]]:
    """Return the SHA-256 of the pictures of each person by yaw, as the JSON of a video has them."""
    return [
        {str(yaw): hashlib.sha256(data).hexdigest() for yaw, data in sorted(one.items())}
        for one in pictures
    ]


def check_made(folder: Folder, orders: Sequence[Order], made: Mapping[str, Any]) -> None:
    """Check those of the orders whose videos are in a folder already.

    Raises UserError, naming the video and what differs, where one was made of another order, or by
    another model or sampling (`made` is by `made_by`).
    """
    there = set(folder.names("*.mp4"))
    for order in orders:
        if f"{order.name}.mp4" not in there:
            continue
        about = read_about(folder, f"{order.name}.json")
        wanted = {
            "prompt": order.prompt,
            "seed": order.seed,
            "pictures": hashes(order.pictures),
            **{key: size for key in SIZES if (size := getattr(order, key)) is not None},
        }
        differing = [key for key, value in wanted.items() if about.get(key) != value]
        before = about.get("made_by") or {}
        differing += [key for key, value in made.items() if before.get(key) != value]
        if differing:
            raise UserError(
                f"{folder.url} has {order.name}.mp4 already, made with other {', '.join(differing)}"
                ": give another --out or name, or delete the video"
            )


def check_free(folder: Folder, orders: Sequence[Order]) -> None:
    """Raises UserError where a file that `generate` did not write would be replaced."""
    there = set(folder.names("*"))
    for order in orders:
        if f"{order.name}.mp4" in there:
            continue  # whose record `check_made` reads
        record = f"{order.name}.json"
        taken = [name for name in (f"{order.name}.jpg", record) if name in there]
        if taken and "made_by" not in read_about(folder, record):
            raise UserError(
                f"{folder.url}/{taken[0]} would be replaced: move it away, or give another --out "
                "or name"
            )


def read_about(folder: Folder, name: str) -> dict[str, Any]:
    """Read the JSON beside a video; empty where there is none that can be read."""
    try:
        found = json.loads(folder.read(name))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_orders(path: Path) -> list[Order]:
    """A JSONL file: `name`, `prompt`, `identities` (as --identity takes them), and if wanted
    `seed`, `height`, `width`, `frames`, `fps`. Raises UserError naming the line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as wrong:
        raise UserError(f"--prompts {path}: {wrong}") from wrong
    orders: list[Order] = []
    known: dict[str, dict[int, bytes]] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                orders.append(_order(json.loads(line), known))
            except (ValueError, UserError) as wrong:
                raise UserError(f"--prompts {path}, line {number}: {wrong}") from wrong
    if not orders:
        raise UserError(f"--prompts {path} holds no prompt")
    names = [order.name for order in orders]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"--prompts {path}: two videos would be called {twice[0]}")
    return orders


def _order(data: Any, pictures: dict[str, dict[int, bytes]]) -> Order:
    """Check one line; `pictures` keeps those of each identity. Raises ValueError, UserError."""
    known = {"name", "prompt", "identities", "seed", *SIZES}
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
    numbers = {key: data[key] for key in ("seed", *SIZES) if data.get(key) is not None}
    for key, value in numbers.items():
        least = 0 if key == "seed" else 1
        if type(value) is not int or not least <= value <= LARGEST_SEED:
            raise ValueError(f"{key} must be a whole number of {least} to 2^63-1, not {value!r}")
    for source in texts:
        if source not in pictures:
            pictures[source] = read_identity(source)
    shown = tuple(pictures[source] for source in texts)
    return Order(name=name, prompt=prompt, pictures=shown, people=tuple(texts), **numbers)
