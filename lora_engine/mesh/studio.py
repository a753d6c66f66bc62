"""What every head shares, loaded once per process; and putting a person together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lora_engine.mesh.anatomy import Anatomy
from lora_engine.mesh.atlas import Atlas
from lora_engine.mesh.fit import LandmarkMap, map_landmarks
from lora_engine.mesh.hair import Style, grow
from lora_engine.mesh.head import Head, Look, assemble, eye_centre
from lora_engine.mesh.landmarks import MOUTH_CORNERS, NOSE_TIP, Landmarker
from lora_engine.mesh.portrait import Lifted, Lifter
from lora_engine.mesh.raster import Array

ROOTS = 0.82  # how much of the scalp's skin the hair's roots hide
ROOT_SHADE = 0.55  # brightness of the hair near its roots


@dataclass(frozen=True)
class Studio:
    """Mesh, landmarks and texture layout."""

    anatomy: Anatomy
    where: LandmarkMap
    lift: Lifter

    @property
    def atlas(self) -> Atlas:
        return self.lift.atlas


@dataclass(frozen=True)
class Person:
    """Everything that makes a head, before it is put together."""

    shape: Array  # coarse vertices
    albedo: Array
    scalp: Array
    seen: Array
    style: Style
    palette: Array
    look: Look


def studio(mesh: Path, landmarker: Path) -> Studio:
    """Read the data files: some 2 s."""
    anatomy = Anatomy(mesh)
    find = Landmarker(landmarker)
    where = map_landmarks(anatomy, find)
    return Studio(anatomy, where, Lifter(anatomy, where, find))


def person(lifted: Lifted, base: Studio) -> Head:
    """The portrait's person as a head."""
    skin, look = lifted.skin, Look(lifted.iris, lifted.cloth, lifted.eyes)
    return build(
        Person(
            lifted.fit.shape, skin.albedo, skin.scalp, skin.seen, lifted.style, lifted.palette, look
        ),
        base,
        seed=0,
    )


def build(who: Person, base: Studio, seed: int) -> Head:
    """A head; `seed` places its single hairs."""
    anatomy = base.anatomy
    fine = anatomy.refine(who.shape)
    scalp = base.atlas.on_vertices(who.scalp)
    hair = grow(fine, anatomy, scalp, who.style, who.palette, seed)
    roots = ROOT_SHADE * np.median(who.palette, axis=0)
    cover = (ROOTS * np.sqrt(who.style.density) * who.scalp)[..., None]
    texture = who.albedo * (1 - cover) + cover * roots
    marks = base.where.on(who.shape)
    eyes = [eye_centre(who.shape[eye]) for eye in anatomy.eyes]
    pupils = [centre + np.array([0, 0, radius]) for centre, radius in eyes]
    features = np.stack([*pupils, marks[NOSE_TIP], *marks[list(MOUTH_CORNERS)]])
    return assemble(
        who.shape, texture, who.seen, hair, who.look, anatomy, base.atlas, features, marks
    )
