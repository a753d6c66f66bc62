"""Wan's own names of the weights, which ComfyUI and the makers' repositories use."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datapipe.errors import UserError
from harmoview.model.new_parts import NEW_PARTS

PREFIX = "harmoview."
"""Of the new parts in a file with Wan's names; Wan's own image embedder is something else."""
_WAN: tuple[tuple[str, str], ...] = (
    (r"^condition_embedder\.time_embedder\.linear_1\.", "time_embedding.0."),
    (r"^condition_embedder\.time_embedder\.linear_2\.", "time_embedding.2."),
    (r"^condition_embedder\.text_embedder\.linear_1\.", "text_embedding.0."),
    (r"^condition_embedder\.text_embedder\.linear_2\.", "text_embedding.2."),
    (r"^condition_embedder\.time_proj\.", "time_projection.1."),
    (r"^scale_shift_table$", "head.modulation"),
    (r"^proj_out\.", "head.head."),
    (r"\.scale_shift_table$", ".modulation"),
    (r"\.attn1\.", ".self_attn."),
    (r"\.attn2\.", ".cross_attn."),
    (r"\.to_out\.0\.", ".o."),
    (r"\.to_([qkv])\.", r".\1."),
    (r"\.ffn\.net\.0\.proj\.", ".ffn.0."),
    (r"\.ffn\.net\.2\.", ".ffn.2."),
    (r"\.norm([23])\.", r".norm<\1>."),  # diffusers has the two the other way round
    (r"<2>", "3"),
    (r"<3>", "2"),
)
"""Patterns of diffusers' names, and what stands there in Wan's, applied one after the other."""


def wan_name(name: str) -> str:
    """Return Wan's name of a weight with diffusers' name; a new part gets `PREFIX`."""
    if name in NEW_PARTS:
        return PREFIX + name
    for pattern, replacement in _WAN:
        name = re.sub(pattern, replacement, name)
    return name


_LAST = "head.modulation"
_PREFIXES = ("", "diffusion_model.", "model.diffusion_model.")


@dataclass(frozen=True)
class WanFile:
    """One safetensors file of a transformer's weights, as Wan's makers and ComfyUI publish it."""

    path: Path
    prefix: str
    """What stands before Wan's names."""

    def name(self, name: str) -> str:
        """Return the name that the file has for a weight with diffusers' name."""
        return self.prefix + wan_name(name)

    def check(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Check that the file holds the weights of these shapes, by diffusers' names, and no more.

        Raises UserError.
        """
        from safetensors import safe_open

        with safe_open(self.path, framework="pt") as file:
            there = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
        if scaled := [key for key in there if "scaled_fp8" in key or key.endswith("scale_weight")]:
            raise UserError(
                f"{self.path} holds weights scaled to 8 bits ({scaled[0]}): take one of 16 bits"
            )
        wanted = {self.name(name): list(shape) for name, shape in shapes.items()}
        wrong = sorted(key for key in wanted | there if wanted.get(key) != there.get(key))
        if wrong:
            key = wrong[0]
            raise UserError(
                f"{self.path} is not the Wan that {self.path.parent / 'config.json'} describes: "
                f"{len(wrong)} weights differ, {key} among them ({_told(there.get(key))} there, "
                f"{_told(wanted.get(key))} by the config)"
            )


def wan_file(folder: Path, weights: Sequence[str]) -> WanFile | None:
    """Return the one file with Wan's names that a transformer's folder holds.

    None where it has one of `weights`, diffusers' own, or no safetensors file at all. Raises
    UserError where it has several, or one that cannot be read or holds something else.
    """
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob("*.safetensors"))
    if not files or any((folder / name).is_file() for name in weights):
        return None
    if len(files) > 1:
        raise UserError(f"{folder} holds several transformers: leave one of {_named(files)} there")
    try:
        with safe_open(files[0], framework="pt") as file:
            keys: Any = set(file.keys())
    except (OSError, SafetensorError) as wrong:
        raise UserError(f"{files[0]} cannot be read as safetensors: {wrong}") from wrong
    for prefix in _PREFIXES:
        if prefix + _LAST in keys:
            return WanFile(files[0], prefix)
    raise UserError(
        f"{files[0]} is no Wan transformer: it has no weight {_LAST}, as Wan's own files and "
        "ComfyUI's have"
    )


def _named(files: Sequence[Path]) -> str:
    return " and ".join(file.name for file in files[:3])


def _told(shape: Sequence[int] | None) -> str:
    return "none" if shape is None else str(list(shape))
