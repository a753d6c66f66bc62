"""The fixed prompts, one for each yaw, and their embeddings in a file beside the adapter."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.models import models_folder
from lora_engine.flux.base import TEXT, Base
from lora_engine.flux.tensors import tensor_bytes

FILE = "prompt_embeddings.safetensors"
_HEADER = "harmoview_prompts"


def prompt(yaw: int) -> str:
    """Return the prompt for a yaw; above 0, the nose points to image right."""
    if yaw == 0:
        turned = "facing the camera straight on"
    else:
        side = "right" if yaw > 0 else "left"
        turned = f"head turned {abs(yaw)} degrees towards the {side} edge of the image"
        if abs(yaw) == 90:
            turned = f"in full profile, nose pointing at the {side} edge of the image"
    same = "Same identity, hair, clothes, expression, light and background."
    return f"The same person, {turned}. {same}"


def tag(yaw: int) -> str:
    """Return the name of a yaw in files."""
    return f"yaw{yaw:+03d}"


@dataclass(frozen=True, slots=True)
class PromptEmbeddings:
    """Embeddings of the prompts by yaw: of the tokens (T, D), and pooled (P,)."""

    prompts: dict[int, str]
    length: int
    """T5 tokens, as many in training as in synthesis, because there is no attention mask."""
    tokens: dict[int, torch.Tensor]
    pooled: dict[int, torch.Tensor]

    def batch(self, yaws: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Stack the embeddings (n, T, D) and (n, P) of some yaws, in their order."""
        return (
            torch.stack([self.tokens[yaw] for yaw in yaws]),
            torch.stack([self.pooled[yaw] for yaw in yaws]),
        )

    def to(self, device: torch.device | str, dtype: torch.dtype) -> PromptEmbeddings:
        """Move the embeddings to a device and a dtype."""
        tokens = {yaw: t.to(device, dtype) for yaw, t in self.tokens.items()}
        pooled = {yaw: t.to(device, dtype) for yaw, t in self.pooled.items()}
        return PromptEmbeddings(self.prompts, self.length, tokens, pooled)


def encode_prompts(
    base: Base, yaws: Sequence[int], length: int, device: torch.device | str, dtype: torch.dtype
) -> PromptEmbeddings:
    """Run the base's two text encoders for each yaw; they are dropped on return."""
    from diffusers import FluxKontextPipeline

    pipe = FluxKontextPipeline.from_pretrained(
        base.path, transformer=None, vae=None, dtype=dtype, use_safetensors=True
    ).to(device)
    tokens, pooled = {}, {}
    with torch.no_grad():
        for yaw in yaws:  # one at a time runs the stock pipeline's kernels, so the bits are equal
            embeds, pool, _ = pipe.encode_prompt(
                prompt(yaw), None, device=device, max_sequence_length=length
            )
            tokens[yaw], pooled[yaw] = embeds[0].cpu(), pool[0].cpu()
    return PromptEmbeddings({yaw: prompt(yaw) for yaw in yaws}, length, tokens, pooled)


def find_prompts(
    base: Base,
    yaws: Sequence[int],
    length: int,
    device: torch.device,
    dtype: torch.dtype,
    beside: Path | None,
) -> PromptEmbeddings:
    """Load embeddings from beside an adapter or from the user's cache, or make them for it.

    Raises UserError as `load_prompts` does.
    """
    path = beside
    if path is None:
        texts = [prompt(yaw) for yaw in yaws]
        made_of = json.dumps([base.hashes(TEXT), texts, length, str(dtype)], sort_keys=True)
        name = hashlib.sha256(made_of.encode()).hexdigest()[:16]
        folder = models_folder().parent / "prompts" / name
        path = folder / FILE
        if not path.is_file():
            save_prompts(Folder(folder), encode_prompts(base, yaws, length, device, dtype))
    return load_prompts(path, yaws, length).to(device, dtype)


def save_prompts(folder: Folder, embeddings: PromptEmbeddings) -> None:
    """Write `prompt_embeddings.safetensors` into the folder."""
    tensors = {}
    for yaw in embeddings.prompts:
        tensors[tag(yaw)] = embeddings.tokens[yaw]
        tensors[f"{tag(yaw)}.pooled"] = embeddings.pooled[yaw]
    header = {"length": embeddings.length, "prompts": list(embeddings.prompts.items())}
    folder.put(FILE, tensor_bytes(tensors, {_HEADER: json.dumps(header)}))


def load_prompts(path: Path, yaws: Sequence[int], length: int) -> PromptEmbeddings:
    """Read the embeddings of some yaws. Raises UserError where they are of other prompts."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(_HEADER, "{}"))
            prompts = {int(yaw): text for yaw, text in header.get("prompts", ())}
            _check(path, prompts, header.get("length"), yaws, length)
            tokens = {yaw: file.get_tensor(tag(yaw)) for yaw in yaws}
            pooled = {yaw: file.get_tensor(f"{tag(yaw)}.pooled") for yaw in yaws}
    except (SafetensorError, OSError) as wrong:
        raise UserError(f"{path} cannot be read ({wrong}); copy or make it again") from wrong
    return PromptEmbeddings({yaw: prompts[yaw] for yaw in yaws}, length, tokens, pooled)


def _check(
    path: Path, prompts: dict[int, str], found: object, yaws: Sequence[int], length: int
) -> None:
    if missing := [yaw for yaw in yaws if yaw not in prompts]:
        raise UserError(f"{path} has no embeddings for the yaws {missing}; it has {list(prompts)}")
    if changed := [yaw for yaw in yaws if prompts[yaw] != prompt(yaw)]:
        raise UserError(f"{path} was made with other prompts for the yaws {changed}; make it again")
    if found != length:
        raise UserError(f"{path} holds {found} tokens a prompt, the adapter needs {length}")
