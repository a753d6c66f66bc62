"""A FLUX.1 Kontext base: where its files are, whether they fit together, and their hashes.

Only file names, JSON and the headers of safetensors are read here, so that a mistake is named
before anything heavy is loaded.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from datapipe.errors import UserError

WEIGHTS = {
    "transformer": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "text_encoder_2": "model",
}
"""Components with weights, and the stem of the names of their files."""

SYNTHESIS = ("transformer", "vae", "scheduler")
TEXT = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")

_CONFIGS = {
    "scheduler": "scheduler_config.json",
    "tokenizer": "tokenizer_config.json",
    "tokenizer_2": "tokenizer_config.json",
}
_VOCABULARIES = ("tokenizer.json", "vocab.json", "spiece.model")
"""Files of which a tokenizer has one."""
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Base:
    """A checked diffusers folder of FLUX.1 Kontext."""

    name: str
    """The hub name, or the folder's own name, without the path on this machine."""
    path: Path
    latent_channels: int
    factor: int
    """Pixels per latent along one side."""

    @property
    def multiple(self) -> int:
        """What divides the sides of a picture: latents are packed two by two."""
        return 2 * self.factor

    def check_resolution(self, side: int) -> None:
        """Raises UserError where no view can have `side` pixels a side."""
        if side % self.multiple:
            raise UserError(f"--resolution {side}: must be a multiple of {self.multiple}")

    def hashes(self, components: Iterable[str]) -> dict[str, str]:
        """SHA-256 of every safetensors and config of the components, by name below the base."""
        files = [file for component in components for file in self._files(component)]
        with ThreadPoolExecutor(4) as pool:
            return dict(zip((f.relative_to(self.path).as_posix() for f in files),
                            pool.map(file_hash, files), strict=True))  # fmt: skip

    def _files(self, component: str) -> list[Path]:
        folder = self.path / component
        return sorted(f for f in folder.iterdir() if f.suffix in (".safetensors", ".json"))


def find_base(name: str, needed: Iterable[str] = (*SYNTHESIS, *TEXT)) -> Base:
    """Find a base by folder or hub name and check it. Raises UserError, naming what is wrong."""
    path = Path(name)
    if not path.is_dir():
        if _REPOSITORY.fullmatch(name) is None:
            raise UserError(
                f"--base {name}: no such folder, and not a hub name like ORGANISATION/MODEL; "
                "give a diffusers folder of FLUX.1-Kontext-dev"
            )
        path = _snapshot(name)
        return _checked(name, path, needed)
    return _checked(path.resolve().name, path, needed)


def _snapshot(repository: str) -> Path:
    """Return the hub's files on this machine, and fetch them if they are not there."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["model_index.json", *(f"{part}/*" for part in (*SYNTHESIS, *TEXT))]
    for offline in (True, False):
        try:
            found = huggingface_hub.snapshot_download(
                repository, allow_patterns=patterns, local_files_only=offline
            )
            return Path(found)
        except LocalEntryNotFoundError:
            continue
        except (HfHubHTTPError, OSError) as wrong:
            raise UserError(
                f"--base {repository}: cannot be fetched ({type(wrong).__name__}). Accept its "
                f"licence and log in, or run `hf download {repository} --local-dir DIR` where the "
                "network allows it and pass --base DIR"
            ) from wrong
    raise UserError(
        f"--base {repository}: not in this machine's cache, and the hub does not answer. Run "
        f"`hf download {repository} --local-dir DIR` where it does and pass --base DIR"
    )


def _checked(name: str, path: Path, needed: Iterable[str]) -> Base:
    kind = _read(path / "model_index.json").get("_class_name")
    if kind != "FluxKontextPipeline":
        raise UserError(
            f"--base {path}: model_index.json says {kind}, expected FluxKontextPipeline; "
            "give a diffusers folder of FLUX.1-Kontext-dev"
        )
    needed = tuple(needed)
    missing = [lack for component in needed for lack in _missing(path, component)]
    if missing:
        raise UserError(f"--base {path} lacks {', '.join(missing)}; fetch the whole folder again")
    transformer = _read(path / "transformer/config.json")
    vae = _read(path / "vae/config.json")
    _check_fit(path, transformer, vae, needed)
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    return Base(name, path, vae["latent_channels"], factor)


def _missing(path: Path, component: str) -> list[str]:
    config = _CONFIGS.get(component, "config.json")
    if not (path / component / config).is_file():
        return [f"{component}/{config}"]
    if component.startswith("tokenizer"):
        there = any((path / component / name).is_file() for name in _VOCABULARIES)
        return [] if there else [f"{component}/{_VOCABULARIES[0]}"]
    stem = WEIGHTS.get(component)
    if stem is None:
        return []
    index = path / component / f"{stem}.safetensors.index.json"
    names = [f"{stem}.safetensors"]
    if index.is_file():
        names = sorted(set(_read(index)["weight_map"].values()))
    return [f"{component}/{name}" for name in names if not (path / component / name).is_file()]


def _check_fit(
    path: Path, transformer: dict[str, Any], vae: dict[str, Any], needed: tuple[str, ...]
) -> None:
    """Check sizes on which the parts must agree. Raises UserError where they do not."""
    packed, latent = transformer.get("in_channels", 64), vae["latent_channels"]
    if packed != 4 * latent:
        raise UserError(
            f"--base {path}: the transformer takes {packed} channels, but the VAE's {latent} "
            f"latent channels pack to {4 * latent}; the parts are of different models"
        )
    if "text_encoder" not in needed:
        return
    sizes = (
        ("text_encoder", "hidden_size", "pooled_projection_dim", 768),
        ("text_encoder_2", "d_model", "joint_attention_dim", 4096),
    )
    for component, theirs, ours, default in sizes:
        gives = _read(path / component / "config.json").get(theirs)
        takes = transformer.get(ours, default)
        if gives != takes:
            raise UserError(
                f"--base {path}: {component} gives {gives} numbers a token, the transformer "
                f"takes {takes}; the parts are of different models"
            )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(
            f"--base: {path} is missing; give a diffusers folder of FLUX.1-Kontext-dev"
        ) from None
    except ValueError as wrong:
        raise UserError(f"--base: {path} is not JSON ({wrong}); fetch it again") from wrong
    if not isinstance(content, dict):
        raise UserError(f"--base: {path} is not a JSON object; fetch it again")
    return content


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, which need not be read where the hub's cache names it so."""
    blob = path.resolve()
    if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return blob.name
    status = blob.stat()
    return _hash(blob, status.st_size, status.st_mtime_ns)


@functools.cache
def _hash(path: Path, size: int, modified: int) -> str:
    """Hash a file; the hash is remembered for as long as its size and time stand."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


Shapes = dict[str, tuple[int, ...]]

_KINDS = (("transformer_blocks", "num_layers"), ("single_transformer_blocks", "num_single_layers"))


def shapes(path: Path) -> Shapes:
    """Return the shape of every tensor in a file, by name. Raises UserError for a damaged file."""
    try:
        with safe_open(path, framework="np") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as wrong:
        raise UserError(f"{path} is damaged ({wrong}); fetch it again") from wrong


def base_shapes(base: Base, components: Sequence[str] = ("transformer",)) -> Shapes:
    """Return the shapes of the transformer's weights.

    Raises UserError where a file of the components is damaged, or the weights are not those of
    their config.
    """
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
    """Check a LoRA's targets. Raises UserError for one by which no linear layer is called."""
    layers = [n.removesuffix(".weight") for n, s in weights.items() if len(s) == 2]
    unknown = [t for t in targets if not any(f".{name}".endswith(f".{t}") for name in layers)]
    if unknown:
        raise UserError(f"--targets {' '.join(unknown)}: no layer of the base is called so")


def check_adapter_fits(
    path: Path, base: Base, weights: Shapes, option: str = "--lora", found: Shapes | None = None
) -> None:
    """Check an adapter's shapes. Raises UserError where it was trained on another base.

    `found` are those of its tensors where the file has them under other names.
    """
    for name, shape in (shapes(path) if found is None else found).items():
        layer, _, part = name.removeprefix("transformer.").rpartition(".lora_")
        whole = weights.get(f"{layer}.weight")
        side = {"A.weight": 1, "B.weight": 0}.get(part)
        if whole is None or side is None or whole[side] != shape[side]:
            raise UserError(
                f"{option} {path}: made for another base than {base.name}: {name} of shape "
                f"{shape} does not fit; give the base it was trained on"
            )
