"""Colours and hairstyles that invented people choose from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lora_engine.mesh.geometry import Array
from lora_engine.mesh.hair import Style


@dataclass(frozen=True)
class Named:
    """A colour with a word for captions."""

    name: str
    rgb: Array
    often: float = 1.0


@dataclass(frozen=True)
class NamedStyle:
    """A way to wear hair, with a word for captions."""

    name: str
    style: Style


def _colours(*rows: tuple[str, tuple[int, int, int], float]) -> tuple[Named, ...]:
    return tuple(Named(name, np.array(rgb, float), often) for name, rgb, often in rows)


# Skin in even light, from fair to dark.
SKIN = np.array(
    [[232, 190, 168], [221, 174, 147], [204, 152, 121], [182, 128, 96], [148, 100, 72],
     [112, 75, 54], [86, 58, 45]],
    float,
)  # fmt: skip
HAIR = _colours(  # the last five go with fair to medium skin
    ("black", (26, 23, 22), 3),
    ("dark brown", (50, 36, 28), 3),
    ("grey", (132, 130, 127), 0.7),
    ("brown", (84, 58, 40), 2),
    ("chestnut", (104, 60, 38), 1),
    ("dark blond", (140, 110, 74), 1),
    ("blond", (184, 152, 104), 1),
    ("red", (146, 74, 40), 0.7),
)
IRIS = _colours(  # the last four go with fair to medium skin
    ("dark brown", (44, 29, 22), 2),
    ("brown", (80, 52, 32), 2),
    ("hazel", (108, 84, 50), 1),
    ("green", (92, 106, 76), 0.8),
    ("blue", (96, 124, 152), 1.2),
    ("grey", (122, 132, 140), 0.6),
)
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

LONG = Style(3.2, 0.14, 0.02, 1.5, 0.92, (1, -0.3, -0.2), (0.2, -1, -0.1), 0.0)
WOMEN = (
    NamedStyle("long straight", LONG),
    NamedStyle("long wavy", replace(LONG, volume=0.24, curl=0.06, coil=0.9, lie=0.85)),
    NamedStyle("long curly", replace(LONG, length=2.8, volume=0.4, curl=0.09, coil=0.35, lie=0.7)),
    NamedStyle("chin-length", replace(LONG, length=1.7, volume=0.18)),
    NamedStyle("slicked-back", Style(1.5, 0.08, 0.01, 1.0, 0.95)),
    NamedStyle("short curly", Style(0.38, 0.26, 0.055, 0.15, 0.2, taper=0.4)),
    NamedStyle("big curly", Style(0.6, 0.45, 0.07, 0.18, 0.2, taper=0.3)),
)
MEN = (
    NamedStyle(
        "short", Style(0.5, 0.14, 0.01, 1.0, 0.75, (0.7, -0.1, 0.5), (0, -0.9, -0.4), taper=0.6)
    ),
    NamedStyle(
        "side-parted",
        Style(0.8, 0.2, 0.02, 1.2, 0.88, (1, -0.1, 0.1), (0.1, -1, -0.3), -0.3, taper=0.7),
    ),
    NamedStyle("cropped", Style(0.1, 0.05, 0.0, 1.0, 0.3, taper=0.5)),
    NamedStyle("slicked-back", Style(1.1, 0.1, 0.01, 1.0, 0.95, taper=0.5)),
    NamedStyle("short curly", Style(0.3, 0.22, 0.05, 0.14, 0.2, taper=0.6)),
    NamedStyle("big curly", Style(0.55, 0.4, 0.07, 0.18, 0.2, taper=0.4)),
    NamedStyle("long straight", LONG),
    NamedStyle(
        "thin", Style(0.3, 0.06, 0, 1.0, 0.7, (0.3, -0.2, 0.6), (0, -0.9, -0.4), None, 0.4, 0.5)
    ),
)


def hairstyle(male: bool, rng: np.random.Generator) -> NamedStyle:
    """One of the styles, a little longer or shorter, fuller or flatter."""
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


def hair_palette(colour: Array, rng: np.random.Generator) -> Array:
    """(400, 3): the colour as single hairs have it."""
    bright = np.exp(rng.normal(0, 0.2, (400, 1)))
    return np.asarray(np.clip(colour * bright * np.exp(rng.normal(0, 0.04, (400, 3))), 4, 245))
