"""What training sees of a subject: variants of its pictures, and the latents of each.

A LoRA meets references as the main job makes them. All pictures of a variant are cut alike, because
the head keeps its place and size from reference to view. Only the reference loses quality: the
views shall be good all the same. Latents are computed once and found by sample id, never by
position.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load

from datapipe.files import Folder
from datapipe.pictures import decode_jpeg
from datapipe.prepare.frontal import FACE_CENTRE
from datapipe.record import Image
from lora_engine.flux import vae
from lora_engine.flux.adapter import tensor_bytes
from lora_engine.flux.base import Base
from lora_engine.flux.prompts import tag
from lora_engine.pairs import Subject, SubjectFrame

REFERENCE = "reference"
"""Name of the reference among the pictures of a variant."""


@dataclass(frozen=True, slots=True)
class Variety:
    """How far variants differ; the options of `TrainLoraSettings` with these names."""

    variants: int = 1
    crop_zoom: float = 1.0
    crop_shift: float = 0.0
    reference_blur: float = 0.0
    reference_noise: float = 0.0
    reference_jpeg: int = 100


PRODUCTION = Variety(
    variants=4,
    crop_zoom=1.25,
    crop_shift=0.05,
    reference_blur=1.0,
    reference_noise=4.0,
    reference_jpeg=60,
)
"""What references meet in production: the defaults of `TrainLoraSettings`. Validation draws by it
whatever the training is, so that trainings can be compared."""


def variant(subject: Subject, number: int, variety: Variety) -> dict[str, Image]:
    """Return the pictures of a variant: the reference and one for each yaw, by name.

    Variant 0 has the best frames as they are. The others have other frames where there are some,
    another crop and another quality of the reference, each a function of subject and number.
    """
    references = subject.references or (subject.frame(0),)
    frames = {tag(yaw): _turn(subject.choice(yaw), number) for yaw in subject.yaws}
    images = {REFERENCE: _turn(references, number).image()}
    images |= {name: frame.image() for name, frame in frames.items()}
    if number == 0:
        return images
    digest = hashlib.sha256(f"{subject.key}:{number}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8]))
    left, top, side = window(rng, variety)
    cropped = {name: crop(image, left, top, side) for name, image in images.items()}
    return cropped | {REFERENCE: degraded(cropped[REFERENCE], rng, variety)}


def _turn(frames: tuple[SubjectFrame, ...], number: int) -> SubjectFrame:
    return frames[number % len(frames)]


def window(rng: np.random.Generator, variety: Variety) -> tuple[float, float, float]:
    """Draw a square inside the picture: left, top and side, as shares of the picture's side.

    Without a shift it keeps the frontal face where it is.
    """
    side = float(np.exp(-rng.uniform(0, np.log(variety.crop_zoom))))
    x, y = rng.uniform(-variety.crop_shift, variety.crop_shift, 2) * side
    room = 1 - side
    left, top = np.clip([room / 2 + x, room * FACE_CENTRE + y], 0, room)
    return float(left), float(top), side


def crop(image: Image, left: float, top: float, side: float) -> Image:
    """Cut out the square that `window` has drawn."""
    whole = image.shape[0]
    pixels = max(1, round(side * whole))
    x, y = (min(round(at * whole), whole - pixels) for at in (left, top))
    return np.ascontiguousarray(image[y : y + pixels, x : x + pixels])


def degraded(image: Image, rng: np.random.Generator, variety: Variety) -> Image:
    """Blur, add noise and compress, each by a strength between none and that of the settings."""
    sigma, noise = rng.uniform(0, [variety.reference_blur, variety.reference_noise])
    quality = int(rng.integers(variety.reference_jpeg, 101))
    pixels = image.astype(np.float32)
    if sigma > 0:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma), np.float32)
    pixels += rng.normal(0, 1, image.shape).astype(np.float32) * np.float32(noise)
    result = np.clip(pixels.round(), 0, 255).astype(np.uint8)
    if quality == 100:
        return result
    _, data = cv2.imencode(".jpg", result[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return decode_jpeg(data.tobytes())


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
        variety: Variety = Variety(),  # it is frozen
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
