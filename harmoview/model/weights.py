"""Wan's weights, on disk or on the hub: whether they are there, and what they ask of HarmoView."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from datapipe.errors import UserError
from harmoview.model.references import normalized_latents
from harmoview.model.wan_names import WanFile, wan_file, wan_name

HOW_TO_GET = (
    "Fetch one with `hf download Wan-AI/Wan2.2-T2V-A14B-Diffusers --local-dir DIR` (also "
    "Wan-AI/Wan2.2-TI2V-5B-Diffusers, Wan-AI/Wan2.1-T2V-1.3B-Diffusers), or give the repository's "
    "name itself."
)
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors.index.json")
"""Files of which a transformer has one."""


def is_hub_name(path: str) -> bool:
    """Whether `path` reads like `owner/name` and is no folder here."""
    owner, _, name = path.partition("/")
    plain = bool(owner and name) and "/" not in name and not owner.startswith((".", "~"))
    return plain and not Path(path).exists()


def config_on_wan(
    path: str, subfolder: str, settings: Mapping[str, Any], *, weights: bool = True
) -> dict[str, Any]:
    """The config of a HarmoView model on a stock transformer, with these settings of its own.

    Two follow the base where they are not given. `reference_timestep` is "zero" for TI2V-5B (48
    channels), which was trained with clean tokens, else "shared", because A14B's high-noise expert
    never saw a clean one. `gray_latent`, if `absent_views` is "gray", is measured with the VAE in
    the folder beside. Raises UserError where there is no text-to-video transformer of Wan; without
    `weights` its config is enough.
    """
    config = wan_config(path, subfolder, weights=weights)
    if config.get("image_dim") is not None or config["in_channels"] != config["out_channels"]:
        raise UserError(f"{path} is an image-to-video Wan; HarmoView builds on text-to-video Wan.")
    config["reference_timestep"] = "zero" if config["in_channels"] == 48 else "shared"
    if settings.get("absent_views") == "gray" and "gray_latent" not in settings:
        config["gray_latent"] = gray_latent(_sibling_vae(path, subfolder))
    return {**config, **settings}


def wan_config(path: str, subfolder: str = "", *, weights: bool = True) -> dict[str, Any]:
    """Read the config of a stock transformer. Raises UserError where there is none.

    Its weights must be there too, unless they are not asked for.
    """
    if weights:
        check_transformer(path, subfolder)
    try:
        config = WanTransformer3DModel.load_config(path, subfolder=subfolder or None)
    except OSError as error:
        raise unreadable(path, error) from error
    _refuse_export(path, config)
    return dict(config)


def _refuse_export(path: str, config: Mapping[str, Any]) -> None:
    """Raises UserError for the config of another kind of model, and of one that was trained here.

    The latter would load as a Wan, and its trained proxy and MFI layer would be drawn anew.
    """
    kind = config.get("_class_name", WanTransformer3DModel.__name__)
    if kind.startswith("Flux"):
        raise UserError(
            f"{path} holds a FLUX ({kind}), which makes views of a person (train-lora, synthesize, "
            f"views), not videos: give a Wan. {HOW_TO_GET}"
        )
    if config.get("_class_name") == "HarmoViewTransformer3DModel":
        raise UserError(
            f"{path} holds a model that `harmoview train` exported, not a plain Wan: give the Wan "
            f"that it was trained on as --base, and --init {path} to train it on"
        )


def unreadable(path: str, error: OSError) -> UserError:
    """Return the error of a hub name that could not be read."""
    reason = str(error).splitlines()[0]
    return UserError(
        f"{path}: there is no such folder, and no such repository could be read ({reason}) "
        + HOW_TO_GET
    )


def check_transformer(path: str, subfolder: str = "") -> None:
    """Check a local transformer. Raises UserError for a trained one, and for files it lacks."""
    if is_hub_name(path):
        return
    folder = Path(path) / subfolder
    config = folder / "config.json"
    if config.is_file():
        _refuse_export(path, json.loads(config.read_text()))
    weights = any((folder / name).is_file() for name in WEIGHTS) or file_of(folder) is not None
    if not config.is_file() or not weights:
        missing = [] if config.is_file() else ["config.json"]
        missing += [] if weights else [f"{' or '.join(WEIGHTS)} or one file with Wan's own names"]
        raise UserError(
            f"There is no Wan transformer in {folder}: looked for {' and '.join(missing)}. "
            + HOW_TO_GET
        )


def file_of(folder: Path) -> WanFile | None:
    """Return the file of a transformer whose weights are in one with Wan's own names.

    Raises UserError as `wan_file` does.
    """
    return wan_file(folder, WEIGHTS)


def load_wan(
    path: str, subfolder: str = "", dtype: torch.dtype | None = None
) -> WanTransformer3DModel:
    """Load a stock transformer of diffusers' files, or of one with Wan's own names.

    As in diffusers' folders, what Wan keeps in float32 is not rounded to `dtype`. Raises UserError
    where there is none.
    """
    check_transformer(path, subfolder)
    folder = Path(path) / subfolder
    file = None if is_hub_name(path) else file_of(folder)
    if file is None:
        where = {"subfolder": subfolder} if subfolder else {}
        return WanTransformer3DModel.from_pretrained(path, dtype=dtype, **where)
    from safetensors.torch import load_file

    with torch.device("meta"):
        empty = WanTransformer3DModel.from_config(WanTransformer3DModel.load_config(folder))
    file.check({name: value.shape for name, value in empty.state_dict().items()})
    weights = {key.removeprefix(file.prefix): value for key, value in load_file(file.path).items()}
    model = WanTransformer3DModel.from_single_file(
        dict(weights), config=str(folder), dtype=dtype or torch.float32
    )
    exact = set(model._keep_in_fp32_modules)
    for name, parameter in model.named_parameters():
        if not exact.isdisjoint(name.split(".")):
            parameter.data = weights[wan_name(name)].float()
    return model


@torch.no_grad()
def gray_latent(vae: AutoencoderKLWan, size: int = 64) -> list[float]:
    """Encode mid-grey for gray padding: a normalised latent, a number for each channel."""
    picture = torch.zeros(1, 3, 1, size, size, dtype=vae.dtype, device=vae.device)
    latent = normalized_latents(vae, picture)
    return [float(value) for value in latent.mean(dim=(0, 2, 3, 4))]


def _sibling_vae(path: str, subfolder: str) -> AutoencoderKLWan:
    if is_hub_name(path) or subfolder:
        return AutoencoderKLWan.from_pretrained(path, subfolder="vae")
    folder = Path(path).resolve().parent / "vae"
    if not (folder / "config.json").is_file():
        raise UserError(
            f"absent_views gray needs the VAE, and {folder} holds none; "
            "give gray_latent or put the VAE beside the transformer."
        )
    return AutoencoderKLWan.from_pretrained(folder)
