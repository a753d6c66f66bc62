"""Latents of every frame, computed once and found by sample id, never by position."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load

from datapipe.files import Folder
from datapipe.record import Image
from lora_engine.flux import vae
from lora_engine.flux.base import Base
from lora_engine.flux.prompts import tag
from lora_engine.flux.tensors import tensor_bytes
from lora_engine.pairs import Subject


def sample_id(subject: str, yaw: int, mirrored: bool) -> str:
    """The name of one encoded picture: whose, the yaw of the frame on disk, mirrored or not."""
    return f"{subject}/{tag(yaw)}" + ("/mirrored" if mirrored else "")


def mirror(image: Image) -> Image:
    """The picture seen in a mirror: its yaw is negated."""
    return np.ascontiguousarray(image[:, ::-1])


class LatentCache:
    """One safetensors per subject. Every tensor carries its full sample id as its name."""

    def __init__(self, folder: Folder, base: Base, data: str, resolution: int, flip: bool) -> None:
        """Entries of another VAE, other pairs or another resolution lie in another folder."""
        made_of = [base.hashes(("vae",)), data, resolution, flip]
        name = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]
        self._folder = folder.folder(name)
        self._resolution = resolution
        self._flip = flip

    def fill(self, autoencoder: Any, subjects: Iterable[Subject]) -> None:
        """Encode what is not there yet, frame by frame."""
        for subject in subjects:
            if self._folder.exists(f"{subject.key}.safetensors"):
                continue
            tensors = {}
            for frame in subject.frames:
                image = frame.image()
                for mirrored in (False, True) if self._flip else (False,):
                    pixels = vae.pixels(mirror(image) if mirrored else image, self._resolution)
                    latents = vae.encode(autoencoder, pixels)[0]
                    tensors[sample_id(subject.key, frame.yaw, mirrored)] = latents
            self._folder.put(f"{subject.key}.safetensors", tensor_bytes(tensors, {}))

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Subjects that are not encoded yet."""
        return [key for key in keys if not self._folder.exists(f"{key}.safetensors")]

    def get(self, subject: str, ids: Iterable[str]) -> torch.Tensor:
        """(n, C, h, w) latents of one subject. Raises RuntimeError when its file lacks an id."""
        name = f"{subject}.safetensors"
        try:
            entry = load(self._folder.read(name))
        except SafetensorError as wrong:
            raise RuntimeError(f"{self._folder.path(name)} is damaged: delete it") from wrong
        wanted = list(ids)
        if lost := [one for one in wanted if one not in entry]:
            raise RuntimeError(
                f"{self._folder.path(name)} holds {sorted(entry)}, not {lost}: delete it"
            )
        return torch.stack([entry[one] for one in wanted])
