"""What a base is run with: the LoRA adapter on it, and how many bits its layers have.

The adapter is one safetensors file that the stock pipeline loads, with a header of ours; its bytes,
and those of the prompts beside it, depend on the content alone.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from datapipe.errors import UserError
from lora_engine.flux.base import Shapes, shapes
from lora_engine.flux.settings import SPEEDS, FluxSettings, ReferenceMode, TrainLoraSettings
from training.options import QUANTIZERS, Quantize
from training.quantize import multiplies_fp8

FILE = "pytorch_lora_weights.safetensors"
_HEADER = "harmoview"


def tensor_bytes(tensors: Mapping[str, torch.Tensor], header: Mapping[str, str]) -> bytes:
    """Return a safetensors file of tensors, which are copied to the CPU, and of metadata.

    The library writes metadata in random order. Here the JSON header is sorted, so that equal
    content gives equal bytes and hashes.
    """
    data = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        {"format": "pt", **header},
    )
    end = 8 + int.from_bytes(data[:8], "little")
    text = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[end:]


def chosen(settings: FluxSettings, device: torch.device, dtype: torch.dtype) -> Quantize:
    """The quantisation asked for, or the speed's: fp8 where it is fast and torchao is there."""
    if settings.quantize is not None:
        return settings.quantize
    wanted = SPEEDS[settings.speed].fp8 and dtype == torch.bfloat16
    there = importlib.util.find_spec(QUANTIZERS["fp8"]) is not None
    return "fp8" if wanted and there and multiplies_fp8(device) else "none"


@dataclass(frozen=True, slots=True)
class AdapterHeader:
    """What an adapter was made for; it is kept in the adapter's file."""

    base: str
    rank: int
    alpha: float
    """The LoRA's scale was alpha / rank in training; in the file it is folded into the weights."""
    targets: tuple[str, ...]
    yaws: tuple[int, ...]
    prompts: tuple[str, ...]
    """One for each yaw."""
    text_length: int
    resolution: tuple[int, ...]
    """Sides in pixels at which it was trained; the first is that of views by default."""
    reference_mode: ReferenceMode
    data: str
    """SHA-256 of the training pairs' manifest."""
    steps: int
    seed: int

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> AdapterHeader:
        """Invert `asdict` and JSON. Raises TypeError for other fields."""
        fields: dict[str, Any] = dict(data)
        fields |= {k: tuple(v) for k, v in data.items() if isinstance(v, list)}
        return cls(**fields)


def adapter_file(lora: str, option: str = "--lora") -> Path:
    """Find the adapter at a path, its file or a folder that holds it. Raises UserError."""
    path = Path(lora)
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"{option} {lora}: no adapter there; give {FILE} or the folder it is in")
    if path.suffix != ".safetensors":
        raise UserError(f"{option} {lora}: only safetensors are read")
    return path


def read_header(path: Path, option: str = "--lora") -> AdapterHeader:
    """Read the header without the weights. Raises UserError where it is none of ours."""
    try:
        with safe_open(path, framework="np") as file:
            text = (file.metadata() or {}).get(_HEADER)
    except (SafetensorError, OSError) as wrong:
        raise UserError(f"{option} {path}: not a readable safetensors file ({wrong})") from wrong
    if text is None:
        raise UserError(
            f"{option} {path}: not written by `harmoview train-lora`, so its prompts and yaws "
            "are not known"
        )
    try:
        header = AdapterHeader.from_json(json.loads(text))
    except TypeError as wrong:
        raise UserError(f"{option} {path}: header of another version ({wrong})") from wrong
    if len(header.prompts) != len(header.yaws):
        raise UserError(
            f"{option} {path}: has {len(header.prompts)} prompts for {len(header.yaws)} yaws; "
            "train it again"
        )
    return header


def check_adapter(
    path: Path, header: AdapterHeader, yaws: Sequence[int], reference_kv: bool | None
) -> None:
    """Check that an adapter suits what is asked of it. Raises UserError, naming what does not."""
    if missing := [yaw for yaw in yaws if yaw not in header.yaws]:
        raise UserError(
            f"--lora {path}: made for the yaws {list(header.yaws)}, not for {missing}; "
            "train one for these yaws"
        )
    trained = header.reference_mode == "two-pass"
    if reference_kv is not None and reference_kv != trained:
        was, want = ("with", "without") if trained else ("without", "with")
        raise UserError(
            f"--lora {path}: trained {was} --reference-kv and asked to work {want} it, "
            "which is another function; leave the option out to follow the adapter"
        )


def check_init(path: Path, settings: TrainLoraSettings) -> None:
    """Check that a training can begin with an adapter. Raises UserError, naming what differs."""
    header = read_header(path, "--init")
    ours = {
        "--rank": (header.rank, settings.rank),
        "--targets": (sorted(header.targets), sorted(settings.targets)),
        "--reference-kv": (header.reference_mode, settings.reference_mode),
    }
    for option, (theirs, wanted) in ours.items():
        if theirs != wanted:
            raise UserError(f"--init {path}: {option} differs: the adapter's is {theirs}")


def add_lora(transformer: Any, rank: int, alpha: float, targets: Sequence[str]) -> None:
    """Put a fresh LoRA on the transformer, whose output does not change, since B is zero."""
    from peft import LoraConfig

    transformer.add_adapter(
        LoraConfig(
            r=rank, lora_alpha=alpha, target_modules=list(targets), init_lora_weights="gaussian"
        )
    )


def keep_input_dtype(transformer: Any) -> None:
    """Let the LoRA take its inputs as they are, under autocast.

    peft casts them to the LoRA's float32 and autocast casts them back: twice a copy of the widest
    activations, and the same bits without.
    """
    for module in transformer.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = False


def adapter_bytes(
    transformer: Any, header: AdapterHeader, dtype: torch.dtype = torch.float32
) -> bytes:
    """Return the file of the LoRA that is on the transformer.

    Alpha is folded into B: programs that look for `.alpha` tensors, those that read peft's settings
    and those that do neither then agree. Of these settings only what is not peft's default is
    written, so that other versions of peft can read them.
    """
    from peft import get_peft_model_state_dict

    config = transformer.peft_config["default"]
    scale = config.lora_alpha / config.r
    tensors = {}
    for name, weight in get_peft_model_state_dict(transformer).items():
        folded = weight * scale if ".lora_B." in name and scale != 1 else weight
        tensors[f"transformer.{name}"] = folded.to(dtype)
    peft = {"r": config.r, "lora_alpha": config.r, "target_modules": sorted(config.target_modules)}
    metadata = {
        "lora_adapter_metadata": json.dumps(
            {f"transformer.{name}": value for name, value in peft.items()}, sort_keys=True
        ),
        _HEADER: json.dumps(asdict(header), sort_keys=True),
    }
    return tensor_bytes(tensors, metadata)


def load_adapter(transformer: Any, path: Path) -> None:
    """Put a saved adapter on the transformer with the stock pipeline's own code."""
    from diffusers import FluxKontextPipeline

    state, alphas, metadata = FluxKontextPipeline.lora_state_dict(
        str(path.parent), weight_name=path.name, return_alphas=True, return_lora_metadata=True,
        use_safetensors=True, local_files_only=True,
    )  # fmt: skip
    FluxKontextPipeline.load_lora_into_transformer(
        state, alphas, transformer, adapter_name="default", metadata=metadata
    )


def turbo_shapes(path: Path) -> Shapes:
    """Return the shapes of a few-step LoRA under diffusers' names, whoever trained it.

    Files of kohya's sd-scripts, ai-toolkit, XLabs and others are converted as the stock pipeline
    does it. Raises UserError for one that it cannot read.
    """
    found = shapes(path)
    if all(name.startswith("transformer.") and ".lora_" in name for name in found):
        return found
    if any("dora_scale" in name for name in found):
        raise UserError(f"--turbo {path}: a DoRA, of which diffusers leaves the scales out")
    from diffusers import FluxKontextPipeline

    state, why = {}, "no layer of it is known"
    try:
        state = FluxKontextPipeline.lora_state_dict(
            str(path.parent), weight_name=path.name, use_safetensors=True, local_files_only=True
        )
    except (ValueError, KeyError, RuntimeError) as wrong:
        why = str(wrong)
    if not state:
        raise UserError(f"--turbo {path}: not a LoRA of FLUX.1 that diffusers reads ({why})")
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
