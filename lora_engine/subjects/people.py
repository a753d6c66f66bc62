"""Inventing a person: shape and skin mixed from portraits by parts of the face, then changed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lora_engine.mesh.anatomy import DIRECTIONS, Phenotype
from lora_engine.mesh.geometry import Array
from lora_engine.mesh.hair import HairStyle
from lora_engine.mesh.head import HeadLook
from lora_engine.mesh.studio import HeadParts
from lora_engine.subjects.gallery import Gallery, Sitter, enlarged


@dataclass(frozen=True)
class NamedColour:
    """A colour, and what a caption calls it."""

    name: str
    rgb: Array
    """0..255."""
    often: float = 1.0
    """Weight with which the colour is drawn."""


@dataclass(frozen=True)
class NamedStyle:
    """A way to wear hair, and what a caption calls it."""

    name: str
    style: HairStyle


def _colours(*rows: tuple[str, tuple[int, int, int], float]) -> tuple[NamedColour, ...]:
    return tuple(NamedColour(name, np.array(rgb, float), often) for name, rgb, often in rows)


SKIN = np.array(
    [[232, 190, 168], [221, 174, 147], [204, 152, 121], [182, 128, 96], [148, 100, 72],
     [112, 75, 54], [86, 58, 45]],
    float,
)  # fmt: skip
"""Skin in even light, from fair to dark, RGB 0..255."""
HAIR = _colours(
    ("black", (26, 23, 22), 3),
    ("dark brown", (50, 36, 28), 3),
    ("grey", (132, 130, 127), 0.7),
    ("brown", (84, 58, 40), 2),
    ("chestnut", (104, 60, 38), 1),
    ("dark blond", (140, 110, 74), 1),
    ("blond", (184, 152, 104), 1),
    ("red", (146, 74, 40), 0.7),
)
"""The last five go with fair to medium skin."""
IRIS = _colours(
    ("dark brown", (44, 29, 22), 2),
    ("brown", (80, 52, 32), 2),
    ("hazel", (108, 84, 50), 1),
    ("green", (92, 106, 76), 0.8),
    ("blue", (96, 124, 152), 1.2),
    ("grey", (122, 132, 140), 0.6),
)
"""The last four go with fair to medium skin."""
CLOTH = _colours(
    ("white", (226, 225, 224), 1),
    ("black", (34, 34, 37), 1),
    ("grey", (128, 130, 134), 1),
    ("navy", (36, 46, 78), 1),
    ("blue", (70, 108, 164), 1),
    ("green", (58, 102, 78), 1),
    ("olive", (104, 104, 68), 1),
    ("red", (150, 48, 46), 1),
    ("burgundy", (98, 36, 50), 1),
    ("mustard", (188, 144, 62), 1),
    ("beige", (200, 182, 154), 1),
    ("violet", (104, 82, 142), 1),
)

LONG = HairStyle(3.2, 0.14, 0.02, 1.5, 0.92, (1, -0.3, -0.2), (0.2, -1, -0.1), 0.0)
WOMEN = (
    NamedStyle("long straight", LONG),
    NamedStyle("long wavy", replace(LONG, volume=0.24, curl=0.06, coil=0.9, lie=0.85)),
    NamedStyle("long curly", replace(LONG, length=2.8, volume=0.4, curl=0.09, coil=0.35, lie=0.7)),
    NamedStyle("chin-length", replace(LONG, length=1.7, volume=0.18)),
    NamedStyle("slicked-back", HairStyle(1.5, 0.08, 0.01, 1.0, 0.95)),
    NamedStyle("short curly", HairStyle(0.38, 0.26, 0.055, 0.15, 0.2, taper=0.4)),
    NamedStyle("big curly", HairStyle(0.6, 0.45, 0.07, 0.18, 0.2, taper=0.3)),
)
MEN = (
    NamedStyle(
        "short", HairStyle(0.5, 0.14, 0.01, 1.0, 0.75, (0.7, -0.1, 0.5), (0, -0.9, -0.4), taper=0.6)
    ),
    NamedStyle(
        "side-parted",
        HairStyle(0.8, 0.2, 0.02, 1.2, 0.88, (1, -0.1, 0.1), (0.1, -1, -0.3), -0.3, taper=0.7),
    ),
    NamedStyle("cropped", HairStyle(0.1, 0.05, 0.0, 1.0, 0.3, taper=0.5)),
    NamedStyle("slicked-back", HairStyle(1.1, 0.1, 0.01, 1.0, 0.95, taper=0.5)),
    NamedStyle("short curly", HairStyle(0.3, 0.22, 0.05, 0.14, 0.2, taper=0.6)),
    NamedStyle("big curly", HairStyle(0.55, 0.4, 0.07, 0.18, 0.2, taper=0.4)),
    NamedStyle("long straight", LONG),
    NamedStyle(
        "thin", HairStyle(0.3, 0.06, 0, 1.0, 0.7, (0.3, -0.2, 0.6), (0, -0.9, -0.4), None, 0.4, 0.5)
    ),
)


def random_hair_style(male: bool, rng: np.random.Generator) -> NamedStyle:
    """Draw a style, a little longer or shorter, fuller or flatter than it is listed."""
    styles = MEN if male else WOMEN
    chosen = styles[int(rng.integers(len(styles)))]
    style = replace(
        chosen.style,
        length=chosen.style.length * rng.uniform(0.85, 1.2),
        volume=chosen.style.volume * rng.uniform(0.8, 1.25),
    )
    if style.part is not None:
        style = replace(style, part=style.part + rng.uniform(-0.25, 0.25))
    return NamedStyle(chosen.name, style)


def random_hair_palette(colour: Array, rng: np.random.Generator) -> Array:
    """Spread a colour over single hairs: (400, 3), RGB 0..255."""
    bright = np.exp(rng.normal(0, 0.2, (400, 1)))
    return np.asarray(np.clip(colour * bright * np.exp(rng.normal(0, 0.04, (400, 3))), 4, 245))


@dataclass(frozen=True, slots=True)
class Mixing:
    """How the portraits are mixed."""

    own_sex: float = 0.55
    """Concentration of the mix for portraits of the same sex; small values choose few portraits."""
    other_sex: float = 0.1
    common: float = 0.35
    """How much of one mix the parts of a face share."""
    caricature: float = 1.35
    """Mixes lie near the average face; this factor takes them away from it again."""


VARIETY = 0.28
"""Sigma of every direction of the face's shape."""
LEAST_SHARE = 0.06
"""Portraits with a smaller share are left out of a mix."""


@dataclass(frozen=True)
class Invented:
    """An invented person, and what a caption says of them."""

    person: HeadParts
    male: bool
    hair: str
    cloth: str
    beard: str = ""
    """"a full beard", or empty."""
    glasses: str = ""
    """"wire-rimmed glasses", or empty."""

    @property
    def words(self) -> str:
        *more, last = [seen for seen in (self.hair, self.beard, self.glasses) if seen]
        seen = f"{', '.join(more)} and {last}" if more else last
        return f"a {'man' if self.male else 'woman'} with {seen} in {self.cloth}"


def invent(gallery: Gallery, rng: np.random.Generator, mixing: Mixing | None = None) -> Invented:
    """Invent a person; the same state of the generator gives the same one."""
    mixing = mixing or Mixing()
    male = bool(rng.random() < 0.5)
    mixes = _mixes(gallery, male, rng, mixing)
    used = sorted({name for mix in mixes for name in mix})
    sitters = {name: gallery[name] for name in used}
    shape = _shape(gallery, mixes, sitters, male, rng, mixing.caricature)
    depth = rng.uniform()  # of the skin's tone: 0 fair, 1 dark
    style = random_hair_style(male, rng)
    tone = _between(SKIN, depth) * np.exp(rng.normal(0, 0.04) + rng.normal(0, 0.012, 3))
    colour = _pick(HAIR, rng, skip=0 if depth < 0.55 else 5)
    albedo = _albedo(gallery, mixes, sitters, tone, colour.rgb, rng)
    scalp = np.sum([share * sitters[name].scalp for name, share in mixes[0].items()], axis=0)
    iris = _pick(IRIS, rng, skip=0 if depth < 0.5 else 4)
    worn = _pick(CLOTH, rng)
    look = HeadLook(
        iris.rgb * rng.uniform(0.85, 1.15),
        worn.rgb * rng.uniform(0.85, 1.1),
        neckline=rng.uniform(-0.12, 0.05),
        vee=float(rng.choice([0.0, 0.0, 0.45])),
    )
    person = HeadParts(
        shape,
        albedo,
        scalp,
        sitters[used[0]].seen,
        style.style,
        random_hair_palette(colour.rgb, rng),
        look,
    )
    article = "an" if worn.name[0] in "aeiou" else "a"
    return Invented(
        person, male, f"{style.name} {colour.name} hair", f"{article} {worn.name} shirt"
    )


def _mixes(
    gallery: Gallery, male: bool, rng: np.random.Generator, mixing: Mixing
) -> list[dict[str, float]]:
    """Draw the portraits' shares in the eyes, the nose and the mouth, by name."""
    same, other = (gallery.men, gallery.women) if male else (gallery.women, gallery.men)
    names = [*same, *other]
    weight = np.array([mixing.own_sex] * len(same) + [mixing.other_sex] * len(other))
    common = rng.dirichlet(weight)
    mixes = []
    for _ in range(3):
        share = mixing.common * common + (1 - mixing.common) * rng.dirichlet(weight)
        share = np.where(share < LEAST_SHARE, 0, share)
        share /= share.sum()
        mixes.append({n: float(s) for n, s in zip(names, share, strict=True) if s > 0})
    return mixes


def _shape(
    gallery: Gallery,
    mixes: list[dict[str, float]],
    sitters: dict[str, Sitter],
    male: bool,
    rng: np.random.Generator,
    caricature: float,
) -> Array:
    """Mix a shape, take it away from the average, and vary it by ancestry and directions."""
    anatomy = gallery.studio.anatomy
    ancestry = rng.dirichlet([0.7, 0.7, 0.7])
    who = Phenotype(float(male), *(float(part) for part in ancestry))
    mean = anatomy.mean(Phenotype(float(male)))
    shape = 0.5 * (anatomy.mean(who) - mean) + mean
    for part, mix in zip(gallery.regions[0], mixes, strict=True):
        for name, share in mix.items():
            shape += caricature * part[:, None] * share * (sitters[name].shape - mean)
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
    """Mix smooth colour by parts, and take each part's detail from its strongest portrait."""
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
    """Interpolate linearly along the anchors (n, 3); `place` 0 is the first, 1 the last."""
    at = np.linspace(0, 1, len(anchors))
    return np.stack([np.interp(place, at, anchors[:, k]) for k in range(3)])


def _pick(choices: tuple[NamedColour, ...], rng: np.random.Generator, skip: int = 0) -> NamedColour:
    """Draw one of the choices, without the last `skip` of them."""
    kept = choices[: len(choices) - skip]
    weight = np.array([choice.often for choice in kept])
    return kept[int(rng.choice(len(kept), p=weight / weight.sum()))]
