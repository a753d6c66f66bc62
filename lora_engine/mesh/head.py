"""A head that can be rendered: skin, eyes, clothes and hair of one person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lora_engine.mesh.anatomy import Anatomy, shading_normals
from lora_engine.mesh.geometry import Array, normals
from lora_engine.mesh.glasses import Glasses, GlassesStyle, put_on
from lora_engine.mesh.hair import Hair
from lora_engine.mesh.texture import Atlas, wrapped

PATCH = 64
"""Texels across an eyeball seen from the front."""
CLOTH = 0.045
"""Decimetres by which cloth stands off the skin."""
CONTACT = 0.3
"""How dark the shadow of a collar on the neck is."""
PIVOT = np.array([0.0, 0.55, -0.1])
"""The place about which the head turns, from the neck joint."""


@dataclass(frozen=True)
class Eyes:
    """Two eyeballs as one mesh."""

    vertices: Array
    """(n, 3)."""
    tris: Array
    """(t, 3)."""
    local: Array
    """(n, 3) on the unit sphere, z along the gaze."""
    out: Array
    """(n, 3) unit normals."""
    colour: Array
    """The iris's, RGB 0..255."""
    white: Array
    """The colour of the white, RGB 0..255."""
    cut: Array
    """(t, 3), nowhere negative: nothing is open."""
    patches: Array | None
    """(2, PATCH, PATCH, 4): RGB and trust of what the portrait shows of each eye."""
    iris: float = 0.47
    """Radius of the iris over the eyeball's."""


@dataclass(frozen=True)
class Garment:
    """A shell over the bust, open above the neckline."""

    vertices: Array
    """(n, 3)."""
    tris: Array
    """(t, 3)."""
    cut: Array
    """(t, 3): distance below the neckline; where it is negative, the shell is open."""
    out: Array
    """(n, 3) unit normals."""
    folds: Array
    """(n,): brightness of the cloth's folds, near 1."""
    colour: Array
    """RGB 0..255."""


@dataclass(frozen=True)
class Head:
    """Geometry and colours of one person's bust."""

    vertices: Array
    """(n, 3), fine ones."""
    tris: Array
    """(t, 3)."""
    out: Array
    """(n, 3): unit normals for light."""
    cut: Array
    """(t, 3), nowhere negative: nothing is open."""
    place: Array
    """(t, 3, 2): texels of the corners."""
    texture: Array
    """(HEIGHT, WIDTH + 2 WRAP, 5): RGB 0..255, what the portrait does not show, and the share of
    the scene's light, both 0..1."""
    cavity: Array
    """(n,), 0..1: how deep in a fold a vertex lies."""
    pivot: Array
    """(3,): where the head turns about."""
    eyes: Eyes
    garment: Garment
    hair: Hair
    features: Array
    """(5, 3): eyes, nose tip, mouth corners; pairs from image left."""
    face: Array
    """(468, 3): landmarks of the skin."""
    glasses: Glasses | None = None


@dataclass(frozen=True)
class HeadLook:
    """Eyes, clothes and glasses: what of a person's look is not in the skin's texture."""

    iris: Array
    """RGB 0..255."""
    cloth: Array
    """RGB 0..255."""
    eyes: Array | None = None
    """What a portrait shows of the eyes; see `Eyes.patches`."""
    neckline: float = 0.0
    """Decimetres by which the neckline is higher than that of a plain round neck."""
    vee: float = 0.0
    """Decimetres by which the neckline is deeper in the middle."""
    glasses: GlassesStyle | None = None


def eyeballs(shape: Array, anatomy: Anatomy, look: HeadLook) -> Eyes:
    """Make spheres where the mesh's eyes are, looking where the face looks."""
    around, along = np.meshgrid(
        np.linspace(0, 2 * np.pi, 33)[:-1], np.linspace(0, 0.62 * np.pi, 13)
    )
    local = np.stack(
        [np.sin(along) * np.cos(around), np.sin(along) * np.sin(around), np.cos(along)], axis=2
    )
    ring = np.arange(32)
    quads = [
        np.stack(
            [
                k * 32 + ring,
                (k + 1) * 32 + ring,
                (k + 1) * 32 + (ring + 1) % 32,
                k * 32 + (ring + 1) % 32,
            ],
            axis=1,
        )
        for k in range(12)
    ]
    faces = np.concatenate(quads)
    tris = np.concatenate([faces[:, [0, 1, 2]], faces[:, [0, 2, 3]]])
    ball = local.reshape(-1, 3)
    centres = [eye_centre(shape[eye]) for eye in anatomy.eyes]
    return Eyes(
        np.concatenate([centre + radius * ball for centre, radius in centres]),
        np.concatenate([tris, tris + len(ball)]).astype(np.int32),
        np.concatenate([ball, ball]),
        np.concatenate([ball, ball]),
        look.iris,
        np.array([212.0, 200.0, 192.0]),
        np.ones((2 * len(tris), 3), np.float32),
        look.eyes,
    )


def eye_centre(eye: Array) -> tuple[Array, float]:
    """Return the centre and the radius of an eyeball, whose cornea bulges forward."""
    low, high = eye.min(axis=0), eye.max(axis=0)
    radius = float(high[1] - low[1]) / 2
    centre = (low + high) / 2
    centre[2] = low[2] + radius
    return centre, radius


def below_neckline(fine: Array, anatomy: Anatomy, look: HeadLook) -> Array:
    """Return how far each vertex lies below the neckline: (fine,), decimetres."""
    neck = anatomy.neck
    x, y, z = fine.T
    line = neck[1] - 0.1 + look.neckline - 0.38 * np.clip(z - neck[2], 0, 1)
    line += 0.25 * np.clip(abs(x) - 0.5, 0, 1)
    line -= look.vee * np.clip(1 - abs(x) / 0.4, 0, 1) * np.clip((z - neck[2]) / 0.4, 0, 1)
    return np.asarray(line - y)


def garment(fine: Array, below: Array, anatomy: Anatomy, colour: Array) -> Garment:
    """Make a shell of the bust below the neckline, a little off the skin."""
    tris = anatomy.triangles[(below[anatomy.triangles] > 0).any(axis=1)]
    used, compact = np.unique(tris, return_inverse=True)
    compact = compact.reshape(tris.shape).astype(np.int32)
    shell = fine[used] + CLOTH * normals(fine, anatomy.triangles)[used]
    cut = below[used][compact].astype(np.float32)
    x, y, z = shell.T
    folds = 1 + 0.04 * np.sin(3 * x + 5 * y) * np.sin(7 * y - 2 * z)
    return Garment(shell, compact, cut, normals(shell, compact), folds, colour)


def assemble(
    shape: Array,
    texture: Array,
    seen: Array,
    hair: Hair,
    look: HeadLook,
    anatomy: Anatomy,
    atlas: Atlas,
    features: Array,
    face: Array,
) -> Head:
    """Put a head together.

    `shape` are its coarse vertices, `texture` (HEIGHT, WIDTH, 3) its skin, `seen` (HEIGHT, WIDTH)
    the portrait's share of that.
    """
    fine = anatomy.refine(shape)
    below = below_neckline(fine, anatomy, look)
    contact = CONTACT * np.exp(-np.clip(-below, 0, None) / 0.06)
    centres = np.stack([eye_centre(shape[eye])[0] for eye in anatomy.eyes])
    layers = np.dstack([texture, 1 - seen, atlas.relit]).astype(np.float32)
    return Head(
        vertices=fine,
        tris=anatomy.triangles,
        out=shading_normals(fine, anatomy),
        cut=np.ones(anatomy.triangles.shape, np.float32),
        place=atlas.place,
        texture=wrapped(layers),
        cavity=np.maximum(anatomy.cavity, contact),
        pivot=anatomy.neck + PIVOT,
        eyes=eyeballs(shape, anatomy, look),
        garment=garment(fine, below, anatomy, look.cloth),
        hair=hair,
        features=features,
        face=face,
        glasses=put_on(look.glasses, centres, fine, anatomy) if look.glasses else None,
    )
