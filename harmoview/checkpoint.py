"""One expert on disk: a whole model, or the parts that training changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from datapipe.errors import UserError
from harmoview.model.new_parts import NEW_PARTS
from harmoview.model.transformer import HarmoViewTransformer3DModel
from harmoview.model.weights import WEIGHTS, wan_config

NEW_PARTS_FILE = "new_parts.safetensors"
LORA_FILE = "pytorch_lora_weights.safetensors"
CONFIG = "config.json"
BASE_KEYS = ("num_attention_heads", "attention_head_dim", "in_channels", "num_layers", "ffn_dim")
"""What a checkpoint and the base that it is put on must share."""


def save_parts(model: HarmoViewTransformer3DModel, folder: Path) -> None:
    """Write config, new parts and the adapter if there is one; the base is left out.

    The adapter is also a stock Wan LoRA: `WanPipeline.load_lora_weights` reads the file.
    """
    from peft.utils import get_peft_model_state_dict
    from safetensors.torch import save_file

    from harmoview.pipeline import HarmoViewPipeline

    folder.mkdir(parents=True, exist_ok=True)
    model.save_config(folder)
    parts = {n: p.detach().contiguous() for n, p in model.named_parameters() if n in NEW_PARTS}
    save_file(parts, folder / NEW_PARTS_FILE)
    if getattr(model, "peft_config", None):
        HarmoViewPipeline.save_lora_weights(
            folder,
            get_peft_model_state_dict(model),
            transformer_lora_adapter_metadata=model.peft_config["default"].to_dict(),
        )


def is_trained(checkpoint: Path, name: str) -> bool:
    """Whether a checkpoint has that expert."""
    return (checkpoint / name / CONFIG).is_file()


def load_expert(
    checkpoint: Path, base: str, name: str, dtype: torch.dtype | None = None
) -> HarmoViewTransformer3DModel:
    """Load the expert `name` (transformer or transformer_2) of a checkpoint.

    A whole model is read as it is; parts are put on the same expert of `base`, a Wan pipeline's
    folder or hub repository. Raises UserError where neither is there, or they do not fit.
    """
    folder = checkpoint / name
    whole = any((folder / file).is_file() for file in WEIGHTS)
    if not (folder / CONFIG).is_file() or not (whole or (folder / NEW_PARTS_FILE).is_file()):
        raise UserError(
            f"There is no trained {name} in {checkpoint}: looked for {name}/{CONFIG} with "
            f"{name}/{WEIGHTS[0]} (a whole model) or {name}/{NEW_PARTS_FILE} (parts). "
            "Give the folder that `harmoview train` exported."
        )
    config = json.loads((folder / CONFIG).read_text())
    if config.get("_class_name") != HarmoViewTransformer3DModel.__name__:
        raise UserError(
            f"{folder} holds a {config.get('_class_name')}, not a HarmoView transformer; "
            "give the folder that `harmoview train` exported."
        )
    if whole:
        model: HarmoViewTransformer3DModel = HarmoViewTransformer3DModel.from_pretrained(
            folder, dtype=dtype
        )
        return model
    return _on_base(folder, config, base, name, dtype)


def _on_base(
    folder: Path, config: dict[str, Any], base: str, name: str, dtype: torch.dtype | None
) -> HarmoViewTransformer3DModel:
    from safetensors.torch import load_file

    stock = wan_config(base, name)
    if differing := [key for key in BASE_KEYS if stock.get(key) != config.get(key)]:
        raise UserError(
            f"{folder} was trained on another base than {base}: "
            + ", ".join(f"{key} is {config.get(key)}, not {stock.get(key)}" for key in differing)
        )
    own = {key: value for key, value in config.items() if key not in stock and key[0] != "_"}
    model: HarmoViewTransformer3DModel = HarmoViewTransformer3DModel.from_wan(
        base, subfolder=name, dtype=dtype, **own
    )
    parts = load_file(folder / NEW_PARTS_FILE)
    wanted = {key for key, _ in model.named_parameters() if key in NEW_PARTS}
    if parts.keys() != wanted:
        raise UserError(
            f"{folder / NEW_PARTS_FILE} holds {sorted(parts)}, its config needs {sorted(wanted)}"
        )
    model.load_state_dict(parts, strict=False)
    if (folder / LORA_FILE).is_file():
        model.load_lora_adapter(folder, weight_name=LORA_FILE, prefix="transformer")
    return model
