"""Building an expert that learns: every worker reads its own part of the weights, and no more."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.tensor import DTensor, distribute_tensor

from datapipe.errors import UserError
from harmoview.attention import use_best_attention
from harmoview.checkpoint import CONFIG, LORA_FILE, NEW_PARTS_FILE, is_trained
from harmoview.model import new_parts
from harmoview.model.context_parallel import share_sequences
from harmoview.model.new_parts import NEW_PARTS
from harmoview.model.rope import JumpRotaryPosEmbed
from harmoview.model.transformer import HarmoViewTransformer3DModel
from harmoview.model.weights import config_on_wan, file_of, is_hub_name
from harmoview.train.expert_phase import ExpertPhase
from harmoview.train.settings import TrainSettings
from harmoview.train.sharded import shard
from harmoview.trainable import Lora, add_lora, first_adapter, has_lora, select
from training.quantize import linear_layers, quantize
from training.recompute import recompute

READERS = 4
"""Files of weights that a worker reads at the same time."""


def build(
    settings: TrainSettings,
    part: ExpertPhase,
    own: Mapping[str, Any],
    device: torch.device,
    dtype: torch.dtype,
) -> HarmoViewTransformer3DModel:
    """Return an expert shared out over the workers, with the weights from which it starts.

    `own` are the model's settings. The model is made without memory, shared out, and only then
    filled, so that no worker ever holds more than its part. Raises UserError where the base or the
    model of --init does not fit.
    """
    train = part.phase.train_set
    with torch.device("meta"):
        model: HarmoViewTransformer3DModel = HarmoViewTransformer3DModel.from_config(
            config_on_wan(settings.base, part.model, own)
        )
        if has_lora(train):
            add_lora(model, settings.lora)
    set_precision(model, torch.float32 if train == "full" else dtype)
    select(model, train)
    held = _quantized(model, settings, part, device)
    recompute(model, settings.recompute or "none")
    model.train()
    use_best_attention(model, device, dtype, learns=True)
    shard(model, device, dtype, held)
    for module in reversed(list(model.modules())):  # FSDP2 looks at a block after its layers
        if all(parameter.is_meta for parameter in module.parameters(recurse=False)):
            module.to_empty(device=device, recurse=False)
    # a buffer that no file holds
    config = model.config
    model.rope = JumpRotaryPosEmbed(
        config.attention_head_dim, config.patch_size, config.rope_max_seq_len
    ).to(device)
    _fill(model, settings, part, held)
    if settings.context_parallel > 1:  # last, as it hooks into the modules that are there
        share_sequences(model, settings.context_parallel, device)
    return model


def set_precision(model: HarmoViewTransformer3DModel, dtype: torch.dtype) -> None:
    """Give all parameters their type: float32 for what is new and for what Wan keeps in it."""
    exact = set(model._keep_in_fp32_modules)
    for name, parameter in model.named_parameters():
        kept = ".lora_" in name or name in NEW_PARTS or not exact.isdisjoint(name.split("."))
        parameter.data = parameter.data.to(torch.float32 if kept else dtype)


def _quantized(
    model: HarmoViewTransformer3DModel,
    settings: TrainSettings,
    part: ExpertPhase,
    device: torch.device,
) -> set[nn.Parameter]:
    """Read the base's linear layers a block at a time, and hold each in fewer bits at once.

    Every worker has them all, as weights in fewer bits cannot be shared out; no worker ever has
    more than a block of them in full. Returns their parameters.
    """
    if settings.quantize == "none":
        return set()
    folder = _base_folder(settings.base, part.model)
    if (file := file_of(folder)) is not None:  # of which parts are read from here on
        file.check({
            name.replace(".base_layer.", "."): parameter.shape
            for name, parameter in model.named_parameters()
            if ".lora_" not in name and name not in NEW_PARTS
        })  # fmt: skip
    for number in range(len(model.blocks)):
        within = f"blocks.{number}."
        layers = linear_layers(model, within)
        for layer in layers.values():
            layer.to_empty(device=device)
        _read(folder, {
            f"{name}.{kind}".replace(".base_layer.", "."): parameter
            for name, layer in layers.items() for kind, parameter in layer.named_parameters()
        }, whole=False)  # fmt: skip
        quantize(model, settings.quantize, device, learns=True, within=within)
    return {p for layer in linear_layers(model).values() for p in layer.parameters()}


def _fill(
    model: HarmoViewTransformer3DModel,
    settings: TrainSettings,
    part: ExpertPhase,
    held: Collection[nn.Parameter],
) -> None:
    """Read Wan's weights, or those of --init, but for those `held`, and draw what neither holds."""
    # an adapter puts Wan's own layer one deeper than the files have it
    parameters = {
        n.replace(".base_layer.", "."): p for n, p in model.named_parameters() if p not in held
    }
    wan = {n: p for n, p in parameters.items() if ".lora_" not in n and n not in NEW_PARTS}
    first = new_parts.first_values(model, settings.seed)
    first |= first_adapter(parameters, settings.seed)
    folder = init_folder(settings, part.model)
    if folder is not None:
        check_init(settings, folder, model, part)
    if folder is not None and not (folder / NEW_PARTS_FILE).is_file():  # a whole model
        whole = {name: p for name, p in parameters.items() if ".lora_" not in name}
        _read(folder, whole)
        first = {name: value for name, value in first.items() if ".lora_" in name}
    else:
        _read(_base_folder(settings.base, part.model), wan, whole=not held)
    if folder is not None and (folder / NEW_PARTS_FILE).is_file():
        first |= _parts_of(folder, parameters, settings.lora)
    for name, value in first.items():
        _put(parameters[name], value)


def init_folder(settings: TrainSettings, name: str) -> Path | None:
    """Return where --init has that expert; None where the run starts from the base's.

    Raises UserError where it has no expert at all.
    """
    if settings.init is None:
        return None
    if is_trained(settings.init, name):
        return settings.init / name
    if not any(is_trained(settings.init, other) for other in ("transformer", "transformer_2")):
        raise UserError(
            f"--init {settings.init} holds no trained model: looked for transformer/{CONFIG}. "
            "Give the folder that `harmoview train` exported."
        )
    return None


def check_init(
    settings: TrainSettings, folder: Path, model: HarmoViewTransformer3DModel, part: ExpertPhase
) -> None:
    """Raises UserError where a model of --init does not fit what is to be trained."""
    there = json.loads((folder / CONFIG).read_text())
    wanted = json.loads(json.dumps(dict(model.config), default=list))
    differing = sorted(
        key
        for key in wanted.keys() & there.keys()
        if key[0] != "_" and key != "vit_name" and wanted[key] != there[key]
    )
    if differing:
        raise UserError(
            f"--init {settings.init}: its {folder.name} does not fit this run: "
            + ", ".join(f"{key} is {there[key]}, not {wanted[key]}" for key in differing)
        )
    train, parts = part.phase.train_set, (folder / NEW_PARTS_FILE).is_file()
    if train != "full" and not parts:
        raise UserError(
            f"--init {settings.init} holds a whole model, on which parts cannot be exported: "
            "train it on with --train-set full"
        )
    if train == "new_parts" and (folder / LORA_FILE).is_file():
        raise UserError(
            f"--init {settings.init} has a LoRA, which --train-set new_parts would drop: choose "
            "new_parts_and_lora, lora or full"
        )


def _parts_of(
    folder: Path, parameters: Mapping[str, nn.Parameter], lora: Lora
) -> dict[str, Tensor]:
    """Read new parts and adapter; an adapter that does not learn is added to Wan's weights."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    found = load_file(folder / NEW_PARTS_FILE)
    if not (folder / LORA_FILE).is_file():
        return found
    with safe_open(folder / LORA_FILE, framework="pt") as file:
        about = json.loads(file.metadata()["lora_adapter_metadata"])
        adapter = {key.removeprefix("transformer."): file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    rank, alpha = about["transformer.r"], about["transformer.lora_alpha"]
    if any(".lora_" in name for name in parameters):
        if (rank, alpha) != (lora.rank, lora.alpha):
            raise UserError(
                f"--init {folder.parent} has a LoRA of rank {rank} and alpha {alpha}: give "
                f"--rank {rank} --alpha {alpha}, or train it on with --train-set full"
            )
        named = {key.replace(".weight", ".default.weight"): v for key, v in adapter.items()}
        return found | named
    for key in (key for key in adapter if ".lora_A." in key):
        change = adapter[key.replace("lora_A", "lora_B")].double() @ adapter[key].double()
        weight = parameters[key.replace(".lora_A", "")]
        _add(weight, (change * (alpha / rank)).float())
    return found


def _read(folder: Path, parameters: Mapping[str, nn.Parameter], *, whole: bool = True) -> None:
    """Read this worker's parts of the parameters from the safetensors in a folder.

    They are `whole` where there are no others in it.
    """
    if (file := file_of(folder)) is not None:
        if whole:
            file.check({name: value.shape for name, value in parameters.items()})
        parameters = {file.name(name): value for name, value in parameters.items()}
    reader = HuggingFaceStorageReader(str(folder), thread_count=READERS)
    metadata = reader.read_metadata().state_dict_metadata
    there = {name: getattr(about, "size", None) for name, about in metadata.items()}
    wrong = [name for name, p in parameters.items() if there.get(name) != p.shape]
    if wrong:
        raise UserError(
            f"{folder} is not the transformer that its {CONFIG} describes: {len(wrong)} weights "
            f"are missing or of another shape, {wrong[0]} among them"
        )
    load({name: p.detach() for name, p in parameters.items()}, storage_reader=reader)


def _base_folder(base: str, name: str) -> Path:
    """Return the local folder of a base's transformer, fetched from the hub if need be."""
    if not is_hub_name(base):
        return Path(base) / name
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(base, allow_patterns=[f"{name}/*"])) / name


def _local(parameter: nn.Parameter, value: Tensor) -> Tensor:
    """Return what of a whole value, which every worker has, is this worker's."""
    value = value.to(parameter.device, parameter.dtype)
    if not isinstance(parameter, DTensor):
        return value
    mesh, places = parameter.device_mesh, parameter.placements
    return distribute_tensor(value, mesh, places, src_data_rank=None)


@torch.no_grad()
def _put(parameter: nn.Parameter, value: Tensor) -> None:
    parameter.copy_(_local(parameter, value))


@torch.no_grad()
def _add(parameter: nn.Parameter, value: Tensor) -> None:
    parameter.add_(_local(parameter, value))
