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
    """Name an encoded picture: its subject, the yaw of the frame on disk, mirrored or not."""
    return f"{subject}/{tag(yaw)}" + ("/mirrored" if mirrored else "")


def mirror(image: Image) -> Image:
    """Mirror a picture, which negates its yaw."""
    return np.ascontiguousarray(image[:, ::-1])


class LatentCache:
    """A safetensors file for each subject, in which the full sample id names each tensor."""

    def __init__(self, folder: Folder, base: Base, data: str, resolution: int, flip: bool) -> None:
        """Takes the folder of this VAE, these pairs and this resolution; others have their own."""
        made_of = [base.hashes(("vae",)), data, resolution, flip]
        name = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]
        self._folder = folder.folder(name)
        self._resolution = resolution
        self._flip = flip

    def fill(self, autoencoder: Any, subjects: Iterable[Subject]) -> None:
        """Encode the subjects that are not there yet, frame by frame."""
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
        """List the subjects that are not encoded yet."""
        return [key for key in keys if not self._folder.exists(f"{key}.safetensors")]

    def get(self, subject: str, ids: Iterable[str]) -> torch.Tensor:
        """Return latents (n, C, h, w) of a subject. Raises RuntimeError for a damaged file."""
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
