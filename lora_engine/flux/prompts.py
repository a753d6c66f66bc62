"""The prompts, one for each yaw, and their embeddings in a file beside the adapter."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.models import models_folder
from lora_engine.flux.adapter import tensor_bytes
from lora_engine.flux.base import TEXT, Base

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


def standard(yaws: Sequence[int]) -> dict[int, str]:
    """Return the prompts of some yaws, where nobody has own ones."""
    return {yaw: prompt(yaw) for yaw in yaws}


def read_prompts(path: Path, yaws: Sequence[int] | None) -> dict[int, str]:
    """Read own prompts from TOML: a table of texts by yaw, such as "+30" = "…". Raises UserError.

    Every yaw must have one, and no two the same: a prompt is all that tells the yaw. None: the yaws
    that the table has.
    """
    try:
        table = {int(yaw): text for yaw, text in tomllib.loads(path.read_text("utf-8")).items()}
    except (OSError, ValueError) as wrong:
        raise UserError(
            f"--prompts {path}: not a TOML table of prompts by yaw ({wrong})"
        ) from wrong
    yaws = sorted(table) if yaws is None else yaws
    if missing := [yaw for yaw in yaws if not isinstance(table.get(yaw), str)]:
        raise UserError(f"--prompts {path}: no text for the yaws {missing}")
    texts = {yaw: str(table[yaw]) for yaw in yaws}
    if len(set(texts.values())) < len(texts):
        raise UserError(f"--prompts {path}: two yaws have the same text")
    return texts


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
    base: Base,
    texts: Mapping[int, str],
    length: int,
    device: torch.device | str,
    dtype: torch.dtype,
) -> PromptEmbeddings:
    """Run the base's two text encoders for each yaw's text; they are dropped on return.

    Raises UserError for a text that has more than `length` T5 tokens.
    """
    from diffusers import FluxKontextPipeline

    pipe = FluxKontextPipeline.from_pretrained(
        base.path, transformer=None, vae=None, dtype=dtype, use_safetensors=True
    ).to(device)
    tokens, pooled = {}, {}
    for yaw, text in texts.items():
        if (count := len(pipe.tokenizer_2(text).input_ids)) > length:
            raise UserError(
                f"the prompt for {yaw:+d}° has {count} T5 tokens, only {length} are used: shorten "
                "it, or give a larger --text-length"
            )
    with torch.no_grad():
        # one at a time runs the stock pipeline's kernels, so the bits are equal
        for yaw, text in texts.items():
            embeds, pool, _ = pipe.encode_prompt(
                text, None, device=device, max_sequence_length=length
            )
            tokens[yaw], pooled[yaw] = embeds[0].cpu(), pool[0].cpu()
    return PromptEmbeddings(dict(texts), length, tokens, pooled)


def find_prompts(
    base: Base,
    texts: Mapping[int, str],
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
        made_of = json.dumps([base.hashes(TEXT), list(texts.items()), length, str(dtype)])
        name = hashlib.sha256(made_of.encode()).hexdigest()[:16]
        folder = models_folder().parent / "prompts" / name
        path = folder / FILE
        if not path.is_file():
            save_prompts(Folder(folder), encode_prompts(base, texts, length, device, dtype))
    return load_prompts(path, texts, length).to(device, dtype)


def save_prompts(folder: Folder, embeddings: PromptEmbeddings) -> None:
    """Write `prompt_embeddings.safetensors` into the folder."""
    tensors = {}
    for yaw in embeddings.prompts:
        tensors[tag(yaw)] = embeddings.tokens[yaw]
        tensors[f"{tag(yaw)}.pooled"] = embeddings.pooled[yaw]
    header = {"length": embeddings.length, "prompts": list(embeddings.prompts.items())}
    folder.put(FILE, tensor_bytes(tensors, {_HEADER: json.dumps(header)}))


def load_prompts(path: Path, texts: Mapping[int, str], length: int) -> PromptEmbeddings:
    """Read the embeddings of prompts by yaw. Raises UserError where they are of others."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(_HEADER, "{}"))
            prompts = {int(yaw): text for yaw, text in header.get("prompts", ())}
            _check(path, prompts, header.get("length"), texts, length)
            tokens = {yaw: file.get_tensor(tag(yaw)) for yaw in texts}
            pooled = {yaw: file.get_tensor(f"{tag(yaw)}.pooled") for yaw in texts}
    except (SafetensorError, OSError) as wrong:
        raise UserError(f"{path} cannot be read ({wrong}); copy or make it again") from wrong
    return PromptEmbeddings(dict(texts), length, tokens, pooled)


def _check(
    path: Path, prompts: dict[int, str], found: object, texts: Mapping[int, str], length: int
) -> None:
    if missing := [yaw for yaw in texts if yaw not in prompts]:
        raise UserError(f"{path} has no embeddings for the yaws {missing}; it has {list(prompts)}")
    if changed := [yaw for yaw, text in texts.items() if prompts[yaw] != text]:
        raise UserError(f"{path} was made with other prompts for the yaws {changed}; make it again")
    if found != length:
        raise UserError(f"{path} holds {found} tokens a prompt, the adapter needs {length}")
