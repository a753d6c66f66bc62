"""Inventing people of whom no two are one person to a recogniser.

What makes people of few portraits look unlike each other: features, brows, beards, skin, age,
glasses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from datapipe.errors import UserError
from datapipe.faces.base import FaceAnalyzer
from datapipe.record import Image, Pose
from lora_engine.mesh.anatomy import DIRECTIONS, HEADS, Anatomy
from lora_engine.mesh.geometry import Array, Light, smoothstep
from lora_engine.mesh.glasses import GlassesStyle
from lora_engine.mesh.head import Head
from lora_engine.mesh.render import Camera, HeadShot, render
from lora_engine.mesh.studio import build
from lora_engine.subjects.gallery import Gallery
from lora_engine.subjects.people import Invented, Mixing, invent

WIDE = Mixing(own_sex=0.25, other_sex=0.08, common=0.1, caricature=1.35)
"""Fewer portraits in a mix, and taken farther from the average."""
SIGMA = {
    "eyes": 0.6, "eyebrows": 0.6, "nose": 0.55, "mouth": 0.5, "chin": 0.3, "cheek": 0.25,
    "forehead": 0.25, "head": 0.06, "neck": 0.05, "asym": 0.35,
}  # fmt: skip
"""Sigma of a target's amount, by what it moves: features may differ much, skulls hardly."""
MOST = 0.95
"""Amount beyond which features look broken."""
FINER = tuple(
    (f"{part}-{a}", f"{part}-{b}")
    for parts, a, b in (
        ("eyes/l-eye-bag eyes/l-eye-height1 eyes/l-eye-height3", "incr", "decr"),
        ("eyes/l-eye-epicanthus eyes/l-eye-push1 eyes/l-eye-push2", "in", "out"),
        ("eyes/l-eye-eyefold eyes/l-eye-eyefold-angle eyebrows/eyebrows-angle", "up", "down"),
        ("nose/nose-nostrils-angle mouth/mouth-lowerlip-ext", "up", "down"),
        ("mouth/mouth-upperlip-ext mouth/mouth-upperlip-middle", "up", "down"),
        ("mouth/mouth-lowerlip-middle cheek/l-cheek-trans", "up", "down"),
        ("nose/nose-nostrils-width nose/nose-septumangle chin/chin-cleft", "incr", "decr"),
        ("mouth/mouth-cupidsbow mouth/mouth-cupidsbow-width", "incr", "decr"),
        ("mouth/mouth-upperlip-width mouth/mouth-lowerlip-width", "incr", "decr"),
        ("nose/nose-compression", "compress", "uncompress"),
        ("asym/asym-brown-1 asym/asym-brown-2 asym/asym-cheek-1 asym/asym-eye-2", "l", "r"),
        ("asym/asym-eye-4 asym/asym-eye-8 asym/asym-jaw-2 asym/asym-jaw-3", "l", "r"),
        ("asym/asym-mouth-1 asym/asym-mouth-2 asym/asym-nose-1 asym/asym-nose-2", "l", "r"),
    )
    for part in parts.split()
)
"""Directions beyond those that every subject varies in: lids, nostrils, lips, uneven halves."""
BEARDED = 0.5
"""Share of the men who wear a beard of some kind."""
GLASSES = 0.2
"""Share of the people who wear glasses."""
FRAMES = (
    ("black-rimmed glasses", (28, 26, 26), 0.019),
    ("brown-rimmed glasses", (74, 46, 30), 0.02),
    ("silver wire-rimmed glasses", (150, 150, 155), 0.008),
    ("gold wire-rimmed glasses", (164, 130, 78), 0.008),
)
"""What a caption calls a frame, its colour, RGB 0..255, and the radius of its rims, decimetres."""
LIPS = (0.30, 0.12)
"""Half width and half height of the lips, decimetres."""


def varied(gallery: Gallery, rng: np.random.Generator) -> Invented:
    """Invent a person who may look very unlike others; the same generator gives the same one."""
    who = invent(gallery, rng, WIDE)
    parts = who.person
    shape = parts.shape + _features(gallery.studio.anatomy, rng)
    hair = np.median(parts.palette, axis=0)
    albedo = _complexion(gallery, parts.albedo.astype(np.float32), rng)
    albedo = _brows(gallery, albedo, hair, rng)
    albedo = _age(gallery, albedo, rng)
    beard = ""
    if who.male and rng.random() < BEARDED:
        beard, albedo = _beard(gallery, albedo, hair, rng)
    glasses, look = "", parts.look
    if rng.random() < GLASSES:
        glasses, worn = _glasses(rng)
        look = replace(look, glasses=worn)
    albedo = np.clip(albedo, 0, 250).astype(np.float32)
    person = replace(parts, shape=shape, albedo=albedo, look=look)
    return replace(who, person=person, beard=beard, glasses=glasses)


def _features(anatomy: Anatomy, rng: np.random.Generator) -> Array:
    """How the coarse vertices move."""
    amounts = np.clip(rng.normal(0, 1, len(_sigmas())) * _sigmas(), -MOST, MOST)
    coarse, heads = len(DIRECTIONS), len(DIRECTIONS) + len(HEADS)
    amounts[coarse:heads] = abs(amounts[coarse:heads])
    moved = np.tensordot(amounts[:heads], anatomy.directions, axes=1)
    for amount, (a, b) in zip(amounts[heads:], FINER, strict=True):
        moved += amount * (anatomy.target(a) - anatomy.target(b)) / 2
    return np.asarray(moved)


@cache
def _sigmas() -> Array:
    names = [a for a, _ in DIRECTIONS] + ["head/"] * len(HEADS) + [a for a, _ in FINER]
    return np.array([SIGMA[name.split("/")[0]] for name in names])


def _noise(shape: tuple[int, int], sigma: float, rng: np.random.Generator) -> Array:
    """Smooth noise of mean 0 and deviation 1."""
    coarse = rng.normal(size=(shape[0] // 8, shape[1] // 8)).astype(np.float32)
    field = cv2.resize(cv2.GaussianBlur(coarse, (0, 0), sigma / 8), shape[::-1])
    return np.asarray((field - field.mean()) / field.std())


def _stubble(shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """Short hairs side by side: about 1, streaked downwards."""
    fine = cv2.GaussianBlur(rng.normal(size=shape).astype(np.float32), (0, 0), 0.8, sigmaY=3)
    return np.asarray(np.clip(1 + 0.25 * fine / fine.std(), 0.3, 1.5))


def _places(gallery: Gallery) -> Array:
    """Across, up and towards the camera, of every texel: (3, HEIGHT, WIDTH)."""
    return np.moveaxis(gallery.places.astype(np.float32), 2, 0)


def _spread(field: Array) -> Array:
    """Averaged over some 20 texels; at a quarter of the size, which is as good and fast."""
    shape = field.shape[1::-1]
    small = cv2.resize(field, (shape[0] // 4, shape[1] // 4), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(cv2.GaussianBlur(small, (0, 0), 5), shape))


def _complexion(gallery: Gallery, albedo: Array, rng: np.random.Generator) -> Array:
    """Uneven skin, freckles, lips and lids of another tone."""
    x, y, z = _places(gallery)
    eyes, _, mouth = gallery.heights
    uneven = rng.uniform(0.01, 0.05) * _noise(y.shape, rng.uniform(24, 48), rng)
    albedo = albedo * np.exp(uneven)[..., None]
    if rng.random() < 0.3:
        spots = (rng.random(y.shape) < rng.uniform(0.0003, 0.0015)).astype(np.float32)
        dots = np.clip(cv2.GaussianBlur(spots, (0, 0), rng.uniform(1.0, 2.2)) * 9, 0, 1)
        albedo = albedo * (1 - 0.35 * (dots * (z > 0.6))[..., None])
    lips = np.clip(1.4 - np.hypot(x / LIPS[0], (y - mouth) / LIPS[1]), 0, 0.4) / 0.4 * (z > 0.7)
    tint = np.exp(rng.normal(0, 0.1) + np.array([0.05, -0.07, -0.04]) * rng.uniform(-0.3, 1.5))
    albedo = albedo * (1 + lips[..., None] * (tint - 1))
    lids = np.exp(-(((abs(x) - 0.34) / 0.24) ** 2) - ((y - eyes) / 0.17) ** 2)
    return np.asarray(albedo * np.exp(rng.normal(0, 0.07) * lids)[..., None])


def _brows(gallery: Gallery, albedo: Array, hair: Array, rng: np.random.Generator) -> Array:
    """Brows thinned out to bare skin, or drawn anew: higher or lower, thicker, straight or bent."""
    x, y, z = _places(gallery)
    eyes = gallery.heights[0]
    bare = (1 - gallery.brows).astype(np.float32)[..., None]
    around, weight = (_spread(field) for field in (albedo * bare, bare))
    skin = around / np.maximum(weight.reshape(*y.shape, 1), 0.05)
    faded = rng.uniform(0.85, 1.0) * gallery.brows[..., None]
    albedo = albedo + faded * np.maximum(0.95 * skin - albedo, 0)
    middle = eyes + rng.uniform(0.17, 0.26)
    inner, outer = rng.uniform(0.08, 0.18), rng.uniform(0.5, 0.62)
    along = np.clip((abs(x) - inner) / (outer - inner), 0, 1)
    arch = rng.uniform(-0.02, 0.11) * np.sin(np.pi * along**1.3) + rng.uniform(-0.1, 0.06) * along
    thick = rng.uniform(0.022, 0.062) * (1 - 0.6 * along)
    line = np.exp(-(((y - middle - arch) / thick) ** 2))
    line *= smoothstep(abs(x), inner - 0.04, inner + 0.03) * (
        1 - smoothstep(abs(x), outer - 0.05, outer + 0.03)
    )
    grain = _stubble(y.shape, rng)
    cover = np.clip(rng.uniform(0.4, 0.8) * line * grain * (z > 0.6), 0, 1)[..., None]
    return np.asarray(albedo * (1 - cover) + cover * 0.75 * hair)


def _age(gallery: Gallery, albedo: Array, rng: np.random.Generator) -> Array:
    """Lines of the forehead, beside nose and mouth, and under the eyes; none on the young."""
    x, y, z = _places(gallery)
    eyes, nose, mouth = gallery.heights
    old = max(0.0, rng.uniform(-0.6, 1.0))
    wave = np.cos(2 * np.pi * (y - eyes) / rng.uniform(0.1, 0.15) + 3 * x**2)
    forehead = np.clip(wave - 0.72, 0, 1) * 3 * smoothstep(y, eyes + 0.5, eyes + 0.58)
    forehead *= (1 - smoothstep(y, eyes + 0.8, eyes + 0.95)) * (1 - smoothstep(abs(x), 0.35, 0.6))
    down = np.clip((nose + 0.08 - y) / (nose + 0.08 - (mouth - 0.12)), 0, 1)
    beside = np.exp(-(((abs(x) - (0.21 + 0.17 * down)) / 0.034) ** 2))
    beside *= (y < nose + 0.08) & (y > mouth - 0.12)
    under = np.exp(-(((y - (eyes - 0.17 + 0.5 * (abs(x) - 0.34) ** 2)) / 0.022) ** 2))
    under *= abs(abs(x) - 0.34) < 0.2
    lines = cv2.GaussianBlur(
        ((0.9 * forehead + 1.0 * beside + 0.8 * under) * (z > 0.6)).astype(np.float32), (0, 0), 1.5
    )
    return np.asarray(albedo * (1 - 0.24 * old * np.clip(lines, 0, 1))[..., None])


def _beard(
    gallery: Gallery, albedo: Array, hair: Array, rng: np.random.Generator
) -> tuple[str, Array]:
    """A beard of short hair, and what a caption calls it."""
    x, y, z = _places(gallery)
    _, nose, mouth = gallery.heights
    lips = smoothstep(np.hypot(x / LIPS[0], (y - mouth) / LIPS[1]), 0.95, 1.25)
    upper = smoothstep(y, mouth, mouth + 0.05) * (1 - smoothstep(y, nose - 0.12, nose - 0.05))
    moustache = upper * (1 - smoothstep(abs(x), 0.26, 0.36))
    chin = (1 - smoothstep(y, mouth - 0.12, mouth - 0.04)) * smoothstep(z, 0.35, 0.6)
    goatee = chin * (1 - smoothstep(abs(x), 0.24, 0.36))
    top = rng.uniform(-0.05, 0.2)
    cheeks = (1 - smoothstep(y, mouth + top - 0.06 + 0.5 * (abs(x) - 0.5), mouth + top + 0.1
                             + 0.5 * (abs(x) - 0.5))) * smoothstep(abs(x), 0.3, 0.42)  # fmt: skip
    cheeks = cheeks * smoothstep(z, -0.2, 0.1)
    kinds = {
        "a moustache": moustache,
        "a goatee": np.maximum(goatee, moustache),
        "a chin beard": goatee,
        "a full beard": np.maximum(np.maximum(cheeks, chin), moustache),
        "a chinstrap beard": np.maximum(cheeks * (y < mouth + 0.1), chin * (y < mouth - 0.3)),
    }
    name = list(kinds)[int(rng.integers(len(kinds)))]
    grain = _stubble(y.shape, rng)
    soft = cv2.GaussianBlur(kinds[name].astype(np.float32), (0, 0), 7)
    neck = smoothstep(y, mouth - 0.75, mouth - 0.6)
    cover = np.clip(rng.uniform(0.4, 0.75) * soft * lips * neck * grain, 0, 1)[..., None]
    return name, np.asarray(albedo * (1 - cover) + cover * 0.75 * hair)


def _glasses(rng: np.random.Generator) -> tuple[str, GlassesStyle]:
    """Glasses of some shape, and what a caption calls them."""
    name, colour, thick = FRAMES[int(rng.integers(len(FRAMES)))]
    corners = rng.uniform(2.0, 3.8)
    return name, GlassesStyle(
        colour=np.array(colour, float),
        wide=rng.uniform(0.23, 0.27),
        high=rng.uniform(0.15, 0.2) + 0.03 * (corners < 2.4),
        corners=corners,
        thick=thick * rng.uniform(0.9, 1.2),
        gloss=1.0 if thick < 0.01 else 0.5,
    )


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
    picture = render([HeadShot(head, Pose(yaw, 0.0, 0.0), camera, light)], (side, side), plain)
    return np.asarray(np.clip(np.rint(picture), 0, 255), np.uint8)


def person_seed(seed: int, number: int) -> int:
    """Of the person drawn as number so-and-so; nothing else is drawn from it."""
    text = f"{seed}/person/{number}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1
