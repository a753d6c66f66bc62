"""What safetensors headers tell of a base and an adapter, before a weight is read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from datapipe.errors import UserError
from lora_engine.flux.base import Base

Shapes = dict[str, tuple[int, ...]]

_KINDS = (("transformer_blocks", "num_layers"), ("single_transformer_blocks", "num_single_layers"))


def shapes(path: Path) -> Shapes:
    """Of every tensor in a file, by name. Raises UserError for a file that is not whole."""
    try:
        with safe_open(path, framework="np") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as wrong:
        raise UserError(f"{path} is damaged ({wrong}); fetch it again") from wrong


def base_shapes(base: Base, components: Sequence[str] = ("transformer",)) -> Shapes:
    """Of the transformer's weights. Raises UserError when one is damaged or not of its config."""
    found: dict[str, Shapes] = {}
    for component in components:
        files = sorted((base.path / component).glob("*.safetensors"))
        found[component] = {n: shape for file in files for n, shape in shapes(file).items()}
    weights = found["transformer"]
    config = json.loads((base.path / "transformer/config.json").read_text())
    width = config.get("num_attention_heads", 24) * config.get("attention_head_dim", 128)
    layers = {"num_layers": 19, "num_single_layers": 38}
    wanted = [width, *(config.get(key, layers[key]) for _, key in _KINDS)]
    has = [weights.get("x_embedder.bias", (0,))[0]]
    for kind, _ in _KINDS:
        names = (n.split(".") for n in weights if n.startswith(f"{kind}."))
        has.append(len({name[1] for name in names}))
    if has != wanted:
        raise UserError(
            f"--base {base.path}: the transformer's weights have width, double and single blocks "
            f"{has}, its config.json says {wanted}; fetch the whole folder again"
        )
    return weights


def check_targets(targets: Sequence[str], weights: Shapes) -> None:
    """Raises UserError for a target that no linear layer of the base is called."""
    layers = [n.removesuffix(".weight") for n, s in weights.items() if len(s) == 2]
    unknown = [t for t in targets if not any(f".{name}".endswith(f".{t}") for name in layers)]
    if unknown:
        raise UserError(f"--targets {' '.join(unknown)}: no layer of the base is called so")


def check_adapter_fits(path: Path, base: Base, weights: Shapes) -> None:
    """Raises UserError when the adapter was trained on a base of another size."""
    for name, shape in shapes(path).items():
        layer, _, part = name.removeprefix("transformer.").rpartition(".lora_")
        whole = weights.get(f"{layer}.weight")
        side = {"A.weight": 1, "B.weight": 0}.get(part)
        if whole is None or side is None or whole[side] != shape[side]:
            raise UserError(
                f"--lora {path}: made for another base than {base.name}: {name} of shape "
                f"{shape} does not fit; give the base it was trained on"
            )
