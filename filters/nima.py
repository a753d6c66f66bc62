"""NIMA (Talebi & Milanfar 2018): the mean of ten predicted votes for a picture's beauty, 1 to 10.

The network and the weights are pyiqa's `nima` (InceptionResNetV2 by timm, trained on AVA), read
from pyiqa's own checkpoint file. pyiqa itself is not needed: it would first download the backbone's
ImageNet weights, which its checkpoint then replaces, and it brings a second OpenCV along.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datapipe.errors import UserError, install
from datapipe.models import digest
from datapipe.record import Image

if TYPE_CHECKING:
    import torch

REPO = "chaofengc/IQA-PyTorch-Weights"
FILE = "NIMA_InceptionV2_ava-b0c77c00.pth"
BACKBONE = "inception_resnet_v2"
SIDE = 299
"""Pixels; the shorter side of a picture, and the centre square that is scored."""
BATCH = 16
"""Pictures that go through the network at once."""
_HELP = (
    f"NIMA needs pyiqa's file {FILE}: give its path, or let this machine reach the hub once "
    f"(repository {REPO}), or score with BRISQUE instead"
)


class Nima:
    """Scores pictures with NIMA on a GPU, or slowly on a CPU."""

    name = "nima"

    def __init__(self, weights: Path | None = None, device: str = "auto") -> None:
        self.weights = weights
        """The checkpoint; None takes it from the hub's cache, or from the hub."""
        self.device = device
        """A torch device, or "auto": CUDA where torch has it."""
        self._sha256: str | None = None
        self._network: Any = None

    def provenance(self) -> dict[str, object]:
        """The checkpoint by SHA-256. Raises UserError when there is none."""
        if self._sha256 is None:
            self._sha256 = digest(find_weights(self.weights))
        return {"name": self.name, "files": {FILE: self._sha256}}

    def setup(self) -> None:
        """Raises UserError when the package, the checkpoint or the device is missing."""
        torch = _torch()
        path = find_weights(self.weights)
        if self._sha256 not in (None, found := digest(path)):
            raise UserError(f"{path} has SHA-256 {found}, but the run started with {self._sha256}")
        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise UserError("NIMA was asked to run on CUDA, but this torch finds no CUDA device")
        self._network = load_checkpoint(build_network(create_backbone()), path).eval().to(device)

    def __call__(self, images: Sequence[Image]) -> list[float | None]:
        """The mean vote for each picture; None where the network gives no number.

        Raises RuntimeError before `setup`.
        """
        if self._network is None:
            raise RuntimeError("setup() comes first")
        votes = [
            vote
            for start in range(0, len(images), BATCH)
            for vote in mean_votes(self._network, images[start : start + BATCH])
        ]
        return [vote if np.isfinite(vote) else None for vote in votes]


def cached_weights() -> Path | None:
    """The checkpoint in the hub's cache or in pyiqa's own; None when it is in neither."""
    import torch
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(REPO, FILE)
    own = Path(torch.hub.get_dir()) / "pyiqa" / FILE
    if isinstance(found, str):
        return Path(found)
    return own if own.is_file() else None


def find_weights(given: Path | None) -> Path:
    """The given file, a cached one, or one fetched from the hub. Raises UserError."""
    if given is not None:
        if not given.is_file():
            raise UserError(f"{given} is not a file. {_HELP}")
        return given
    _torch()
    if (cached := cached_weights()) is not None:
        return cached
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(REPO, FILE))
    except OSError as wrong:  # every failure of the hub is one: no network, offline mode, no file
        raise UserError(f"{_HELP}. The hub answered: {wrong}") from wrong


def create_backbone() -> torch.nn.Module:
    """The network that the features come from. Raises UserError when timm is not installed."""
    _torch()
    import timm

    backbone: torch.nn.Module = timm.create_model(BACKBONE, pretrained=False, features_only=True)
    return backbone


def build_network(backbone: torch.nn.Module) -> torch.nn.Module:
    """pyiqa's NIMA on a timm feature network: pooled features, one linear layer, ten votes."""
    from torch import nn

    channels: int = backbone.feature_info.channels()[-1]  # type: ignore[union-attr, operator]

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base_model = backbone
            # Places 0 and 1 as in the checkpoint, where they flatten and drop out.
            votes = nn.Linear(channels, 10)
            self.classifier = nn.Sequential(nn.Flatten(), nn.Identity(), votes, nn.Softmax(-1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pooled = self.base_model(x)[-1].mean(dim=(2, 3))
            votes: torch.Tensor = self.classifier(pooled)
            return votes

    return Network()


def load_checkpoint(network: torch.nn.Module, path: Path) -> torch.nn.Module:
    """The network with pyiqa's weights. Raises UserError when the file holds others."""
    import pickle

    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["params"]
        network.load_state_dict(
            {key.removeprefix("module."): value for key, value in state.items()}
        )
    except (RuntimeError, KeyError, TypeError, AttributeError, EOFError, pickle.PickleError) as bad:
        reason = str(bad).strip().split("\n", 1)[0]
        raise UserError(f"{path} is not pyiqa's checkpoint {FILE}: {reason}. {_HELP}") from bad
    return network


def mean_votes(network: torch.nn.Module, images: Sequence[Image]) -> list[float]:
    """The expected vote of each picture."""
    import torch

    device = next(network.parameters()).device
    batch = torch.cat([_prepared(image) for image in images]).to(device)
    # No TF32, no choice of algorithm by timing: a GPU and a CPU agree to three decimals.
    exact = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    with torch.inference_mode(), exact:
        votes = network(batch).double().cpu()
    return [float(vote) for vote in votes @ torch.arange(1, 11, dtype=torch.float64)]


def _prepared(image: Image) -> torch.Tensor:
    """(1, 3, 299, 299), -1..1: shorter side to 299, centre square."""
    import torch

    height, width = image.shape[:2]
    x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
    short = min(height, width)
    size = (SIDE * height // short, SIDE * width // short)
    x = torch.nn.functional.interpolate(
        x, size=size, mode="bilinear", align_corners=False, antialias=True
    )
    top, left = round((size[0] - SIDE) / 2), round((size[1] - SIDE) / 2)
    return x[..., top : top + SIDE, left : left + SIDE] * 2 - 1


def _torch() -> Any:
    try:
        import huggingface_hub
        import timm
        import torch
    except ImportError as missing:
        raise UserError(
            f"NIMA needs the package {missing.name}: {install('nima')}, or score with "
            "BRISQUE instead"
        ) from missing
    del huggingface_hub, timm
    return torch
