"""Training state, one file a checkpoint: it appears whole or not at all, and resumes exactly."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from safetensors.torch import load, save

from datapipe.errors import UserError
from datapipe.files import Folder

KEPT = 2
"""Checkpoints that stay; the one before the latest is for people, not for the code."""


def save_state(
    folder: Folder,
    step: int,
    parameters: Mapping[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    ema: EMAModel | None,
) -> None:
    """Write checkpoint `step` (steps done), then delete those before the last two."""
    tensors = {f"lora/{name}": p.detach() for name, p in parameters.items()}
    scalars: dict[str, float | int] = {}
    for name, value in _flat("optimizer", optimizer.state_dict()["state"]):
        if isinstance(value, torch.Tensor):
            tensors[name] = value
        else:
            scalars[name] = value
    if ema is not None:
        scalars["ema"] = ema.optimization_step
        tensors |= {f"ema/{i}": shadow for i, shadow in enumerate(ema.shadow_params)}
    header = {"step": str(step), "scalars": json.dumps(scalars)}
    # Copies: bitsandbytes' entries share tables, which safetensors refuses.
    stored = {n: t.to("cpu", copy=True).contiguous() for n, t in tensors.items()}
    folder.put(f"{step:06d}.safetensors", save(stored, header))
    for old in checkpoints(folder)[:-KEPT]:
        folder.delete(f"{old:06d}.safetensors")


def checkpoints(folder: Folder) -> list[int]:
    """The steps of which there is a checkpoint, in order."""
    return [int(name.removesuffix(".safetensors")) for name in folder.names("*.safetensors")]


def load_state(
    folder: Folder,
    step: int,
    parameters: Mapping[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    ema: EMAModel | None,
) -> None:
    """Put checkpoint `step` back. Raises UserError when it is of another model or optimiser."""
    data = folder.read(f"{step:06d}.safetensors")
    tensors = load(data)
    stored = {n.removeprefix("lora/"): t for n, t in tensors.items() if n.startswith("lora/")}
    if {n: t.shape for n, t in stored.items()} != {n: p.shape for n, p in parameters.items()}:
        raise UserError(f"{folder.url}: checkpoint {step} is of another LoRA; start a new --out")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(stored[name])
    scalars = json.loads(_metadata(data)["scalars"])
    _load_optimizer(optimizer, tensors, scalars)
    if ema is not None:
        ema.optimization_step = scalars["ema"]
        for i, shadow in enumerate(ema.shadow_params):
            shadow.copy_(tensors[f"ema/{i}"])


def _flat(name: str, entries: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Leaves by their path; bitsandbytes nests its quantisation state."""
    for key, value in entries.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{name}/{key}", value)
        else:
            yield f"{name}/{key}", value


def _load_optimizer(
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, torch.Tensor],
    scalars: Mapping[str, Any],
) -> None:
    state: dict[int, dict[str, Any]] = {}
    for name, value in {**tensors, **scalars}.items():
        kind, *path = name.split("/")
        if kind != "optimizer":
            continue
        place = state.setdefault(int(path[0]), {})
        for part in path[1:-1]:
            place = place.setdefault(part, {})
        place[path[-1]] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _metadata(data: bytes) -> dict[str, str]:
    """The metadata of a safetensors file's bytes."""
    end = 8 + int.from_bytes(data[:8], "little")
    found: dict[str, str] = json.loads(data[8:end])["__metadata__"]
    return found
