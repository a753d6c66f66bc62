"""Inventing people of whom no two are one person to a recogniser."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from datapipe.errors import UserError
from datapipe.faces.base import FaceAnalyzer
from datapipe.record import Image, Pose
from lora_engine.mesh.head import Head
from lora_engine.mesh.light import Light
from lora_engine.mesh.render import Camera, Shot, render
from lora_engine.mesh.studio import build
from lora_engine.subjects.gallery import Gallery
from lora_engine.subjects.people import Invented
from lora_engine.subjects.variety import varied

SIDE = 384
"""Pixels of the portraits by which people are compared."""
DRAWS = 150
"""Drawn one after the other without anyone new among them: then there are no more to be had."""


@dataclass(frozen=True)
class Distinct:
    """A person, by the seed that invents them."""

    seed: int
    invented: Invented
    head: Head


def distinct_people(
    gallery: Gallery,
    faces: FaceAnalyzer,
    seed: int,
    most: float,
    told: Callable[[int], None] = lambda draws: None,
) -> Iterator[Distinct]:
    """People without end, each with a cosine of at most `most` to all before.

    The same seed gives the same people in the same order. `faces` is set up; `told` hears how many
    were drawn. Raises UserError when `DRAWS` draws in a row are all too like those before.
    """
    kept: list[npt.NDArray[np.float32]] = []
    draws, since = 0, 0
    while True:
        own = person_seed(seed, draws)
        draws, since = draws + 1, since + 1
        told(draws)
        found = invented(gallery, own)
        picture = portrait(found.head, 0.0, SIDE)
        seen = faces.find([picture])[0]
        vector = faces.embed(picture, seen[:1])[0] if seen else None
        if vector is not None and all(float(vector @ other) <= most for other in kept):
            kept.append(vector)
            since = 0
            yield found
        elif since >= DRAWS:
            raise UserError(
                f"only {len(kept)} people fit under a cosine of {most:g}: {DRAWS} draws in a row "
                "were too like them; ask for fewer people, or allow a higher cosine"
            )


def invented(gallery: Gallery, seed: int) -> Distinct:
    """The person of a seed, with hair placed by it too."""
    who = varied(gallery, np.random.default_rng(seed))
    return Distinct(seed, who, build(who.person, gallery.studio, seed=seed & 0x7FFFFFFF))


def portrait(head: Head, yaw: float, side: int) -> Image:
    """(side, side, 3): head and shoulders in plain light before grey, level, at an exact yaw."""
    centre = head.face.mean(axis=0)
    scale = 0.25
    top = (head.vertices[:, 1].max() - centre[1]) * scale
    camera = Camera(centre * [0, 1, 1], (0.5, max(0.5, top + 0.14)), scale)
    light = Light.from_direction(np.array([0.0, 0.4, 1.0]), key=0.25)
    plain = np.full((2, 2, 3), 168.0, np.float32)
    picture = render([Shot(head, Pose(yaw, 0.0, 0.0), camera, light)], (side, side), plain)
    return np.asarray(np.clip(np.rint(picture), 0, 255), np.uint8)


def person_seed(seed: int, number: int) -> int:
    """Of the person drawn as number so-and-so; nothing else is drawn from it."""
    text = f"{seed}/person/{number}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1
