"""Inventing a person: shape and skin mixed from portraits by parts of the face, then changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lora_engine.mesh.anatomy import DIRECTIONS, Phenotype
from lora_engine.mesh.geometry import Array
from lora_engine.mesh.head import Look
from lora_engine.mesh.studio import Person
from lora_engine.subjects.gallery import Gallery, Sitter, enlarged
from lora_engine.subjects.wardrobe import CLOTH, HAIR, IRIS, SKIN, Named, hair_palette, hairstyle

OWN_SEX, OTHER_SEX = 0.55, 0.1  # concentration of the mix; small values choose few portraits
COMMON = 0.35  # how much the parts of a face share one mix
CARICATURE = 1.35  # mixes lie near the average face; this takes them away from it again
VARIETY = 0.28  # sigma of every direction of the face's shape
TIRED = 0.06  # portraits with a smaller share are left out


@dataclass(frozen=True)
class Invented:
    """A person, and how a caption would describe them."""

    person: Person
    male: bool
    hair: str
    cloth: str

    @property
    def words(self) -> str:
        return f"a {'man' if self.male else 'woman'} with {self.hair} in {self.cloth}"


def invent(gallery: Gallery, rng: np.random.Generator) -> Invented:
    """A new person; the same generator state gives the same one."""
    male = bool(rng.random() < 0.5)
    mixes = _mixes(gallery, male, rng)
    used = sorted({name for mix in mixes for name in mix})
    sitters = {name: gallery[name] for name in used}
    shape = _shape(gallery, mixes, sitters, male, rng)
    depth = rng.uniform()  # of the skin's tone: 0 fair, 1 dark
    style = hairstyle(male, rng)
    tone = _between(SKIN, depth) * np.exp(rng.normal(0, 0.04) + rng.normal(0, 0.012, 3))
    colour = _pick(HAIR, rng, skip=0 if depth < 0.55 else 5)
    albedo = _albedo(gallery, mixes, sitters, tone, colour.rgb, rng)
    scalp = np.sum([share * sitters[name].scalp for name, share in mixes[0].items()], axis=0)
    iris = _pick(IRIS, rng, skip=0 if depth < 0.5 else 4)
    worn = _pick(CLOTH, rng)
    look = Look(
        iris.rgb * rng.uniform(0.85, 1.15),
        worn.rgb * rng.uniform(0.85, 1.1),
        neckline=rng.uniform(-0.12, 0.05),
        vee=float(rng.choice([0.0, 0.0, 0.45])),
    )
    person = Person(
        shape,
        albedo,
        scalp,
        sitters[used[0]].seen,
        style.style,
        hair_palette(colour.rgb, rng),
        look,
    )
    return Invented(person, male, f"{style.name} {colour.name} hair", f"a {worn.name} shirt")


def _mixes(gallery: Gallery, male: bool, rng: np.random.Generator) -> list[dict[str, float]]:
    """Shares of the portraits for eyes, nose and mouth."""
    same, other = (gallery.men, gallery.women) if male else (gallery.women, gallery.men)
    names = [*same, *other]
    weight = np.array([OWN_SEX] * len(same) + [OTHER_SEX] * len(other))
    common = rng.dirichlet(weight)
    mixes = []
    for _ in range(3):
        share = COMMON * common + (1 - COMMON) * rng.dirichlet(weight)
        share = np.where(share < TIRED, 0, share)
        share /= share.sum()
        mixes.append({n: float(s) for n, s in zip(names, share, strict=True) if s > 0})
    return mixes


def _shape(
    gallery: Gallery,
    mixes: list[dict[str, float]],
    sitters: dict[str, Sitter],
    male: bool,
    rng: np.random.Generator,
) -> Array:
    """The mixed shape, further from the average, with directions and ancestry of its own."""
    anatomy = gallery.studio.anatomy
    ancestry = rng.dirichlet([0.7, 0.7, 0.7])
    who = Phenotype(float(male), *(float(part) for part in ancestry))
    mean = anatomy.mean(Phenotype(float(male)))
    shape = 0.5 * (anatomy.mean(who) - mean) + mean
    for part, mix in zip(gallery.regions[0], mixes, strict=True):
        for name, share in mix.items():
            shape += CARICATURE * part[:, None] * share * (sitters[name].shape - mean)
    amounts = np.clip(rng.normal(0, VARIETY, len(anatomy.directions)), -0.7, 0.7)
    amounts[len(DIRECTIONS) :] = abs(amounts[len(DIRECTIONS) :])
    return np.asarray(shape + np.tensordot(amounts, anatomy.directions, axes=1))


def _albedo(
    gallery: Gallery,
    mixes: list[dict[str, float]],
    sitters: dict[str, Sitter],
    tone: Array,
    hair: Array,
    rng: np.random.Generator,
) -> Array:
    """Smooth colour mixed by parts, detail from the strongest portrait of each part."""
    smooth = np.zeros_like(next(iter(sitters.values())).smooth)
    detail = np.zeros((*gallery.cheeks.shape, 3), np.float32)
    for part, mix in zip(gallery.regions[1], mixes, strict=True):
        low = part[::4, ::4, None]
        for name, share in mix.items():
            smooth += low * share * sitters[name].smooth
        strongest = max(mix, key=lambda name: mix[name])
        detail += part[..., None].astype(np.float32) * sitters[strongest].detail
    relative = enlarged(smooth) + rng.uniform(0.8, 1.5) * detail
    albedo = np.clip(relative, 0.02, 1.6) * tone.astype(np.float32)
    dark = np.clip((0.75 - relative.mean(axis=2)) / 0.4, 0, 1) * gallery.brows
    wanted = 0.7 * hair
    lighter = np.maximum(wanted - albedo, 0)
    return np.asarray(np.clip(albedo + 0.75 * dark[..., None] * lighter, 0, 250), np.float32)


def _between(anchors: Array, place: float) -> Array:
    """Piecewise linear along the anchors, 0..1."""
    at = np.linspace(0, 1, len(anchors))
    return np.stack([np.interp(place, at, anchors[:, k]) for k in range(3)])


def _pick(choices: tuple[Named, ...], rng: np.random.Generator, skip: int = 0) -> Named:
    """One of the choices; `skip` leaves out so many of the last ones."""
    kept = choices[: len(choices) - skip]
    weight = np.array([choice.often for choice in kept])
    return kept[int(rng.choice(len(kept), p=weight / weight.sum()))]
