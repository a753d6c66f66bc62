"""Latents of every picture, computed once and found by sample id, never by position."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load

from datapipe.files import Folder
from datapipe.record import Image
from lora_engine.flux import vae
from lora_engine.flux.base import Base
from lora_engine.flux.tensors import tensor_bytes
from lora_engine.flux.variants import Variety, variant
from lora_engine.pairs import Subject


def sample_id(subject: str, variant: int, name: str, mirrored: bool) -> str:
    """Name an encoded picture: its subject, variant and name in it, mirrored or not.

    The name is `REFERENCE`, or the tag of the yaw of the frame on disk.
    """
    return f"{subject}/{variant}/{name}" + ("/mirrored" if mirrored else "")


def mirror(image: Image) -> Image:
    """Mirror a picture, which negates its yaw."""
    return np.ascontiguousarray(image[:, ::-1])


class LatentCache:
    """A safetensors file for each variant, in which the full sample id names each tensor."""

    def __init__(
        self,
        folder: Folder,
        base: Base,
        data: str,
        resolution: int,
        flip: bool,
        variety: Variety = Variety(),  # noqa: B008  # it is frozen
    ) -> None:
        """Takes the folder of this VAE, these pairs and these settings; others have their own."""
        made_of = [base.hashes(("vae",)), data, resolution, flip, asdict(variety)]
        name = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]
        self._folder = folder.folder(name)
        self._resolution = resolution
        self._flip = flip
        self._variety = variety

    def fill(self, autoencoder: Any, subjects: Iterable[Subject]) -> None:
        """Encode the variants that are not there yet, picture by picture."""
        for subject in subjects:
            for number in range(self._variety.variants):
                if not self._folder.exists(_file(subject.key, number)):
                    tensors = self._encode(autoencoder, subject, number)
                    self._folder.put(_file(subject.key, number), tensor_bytes(tensors, {}))

    def _encode(self, autoencoder: Any, subject: Subject, number: int) -> dict[str, torch.Tensor]:
        tensors = {}
        for name, image in variant(subject, number, self._variety).items():
            for mirrored in (False, True) if self._flip else (False,):
                pixels = vae.pixels(mirror(image) if mirrored else image, self._resolution)
                latents = vae.encode(autoencoder, pixels)[0]
                tensors[sample_id(subject.key, number, name, mirrored)] = latents
        return tensors

    def missing(self, keys: Iterable[str]) -> list[str]:
        """List the subjects that are not wholly encoded yet."""
        numbers = range(self._variety.variants)
        return [key for key in keys if not all(self._folder.exists(_file(key, n)) for n in numbers)]

    def get(self, subject: str, number: int, ids: Iterable[str]) -> torch.Tensor:
        """Return latents (n, C, h, w) of a variant. Raises RuntimeError for a damaged file."""
        name = _file(subject, number)
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


def _file(subject: str, number: int) -> str:
    return f"{subject}.{number}.safetensors"
