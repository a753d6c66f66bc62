"""The portraits from which people are mixed, each lifted once a process when it is needed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from datapipe.faces.landmarks import LIPS_INNER, NOSE_TIP
from datapipe.faces.light import LightFaces
from datapipe.models import model_path
from lora_engine.mesh.anatomy import Phenotype
from lora_engine.mesh.geometry import Array, smoothstep
from lora_engine.mesh.studio import Studio
from lora_engine.mesh.texture import HEIGHT, WIDTH

SIDE = 768
"""Pixels at which the portraits are read."""
COARSE = 5.0
"""Sigma in texels that divides smooth colour, which is mixed, from one portrait's detail."""
KEPT = 4
"""How many times smaller the smooth colour is kept."""


@dataclass(frozen=True)
class Sitter:
    """One portrait's shape, and its skin split into smooth colour and fine detail."""

    shape: Array
    """(coarse, 3) vertices."""
    smooth: Array
    """(HEIGHT / KEPT, WIDTH / KEPT, 3), relative to the skin's own tone."""
    detail: Array
    """(HEIGHT, WIDTH, 3), relative, about 0."""
    scalp: Array
    """As `Skin.scalp`."""
    seen: Array
    """As `Skin.seen`."""


class Gallery:
    """All portraits; their names are sorted, so that a person depends on the seed alone."""

    def __init__(self) -> None:
        """Opens the portraits and models. Raises UserError when a data file is missing."""
        cv2.setNumThreads(1)
        self._folder = model_path("portraits")
        self.studio = Studio(model_path("mpfb2"), model_path("face-landmarker"))
        self._faces = LightFaces()
        self._faces.setup()
        self._sitters: dict[str, Sitter] = {}
        names = sorted(path.parent.name for path in self._folder.glob("*/metadata.json"))
        self.men = tuple(name for name in names if _sex(self._folder / name) == "male")
        self.women = tuple(name for name in names if name not in self.men)

    def __getitem__(self, name: str) -> Sitter:
        if name not in self._sitters:
            self._sitters[name] = self._lift(name)
        return self._sitters[name]

    def _lift(self, name: str) -> Sitter:
        path = self._folder / name / "assets" / "studio_portrait.jpg"
        photo = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        photo = cv2.resize(photo, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        face = self._faces.find([photo])[0][0]
        who = Phenotype(male=float(name in self.men))
        lifted = self.studio.lift(photo, face, who)
        skin = lifted.skin
        relative = skin.albedo / np.median(skin.albedo[self.cheeks], axis=0)
        smooth = cv2.GaussianBlur(relative, (0, 0), COARSE)
        small = cv2.resize(smooth, (WIDTH // KEPT, HEIGHT // KEPT), interpolation=cv2.INTER_AREA)
        detail = (relative - enlarged(small)).astype(np.float16)
        return Sitter(lifted.fit.shape, small, detail, skin.scalp, skin.seen)

    @cached_property
    def cheeks(self) -> Array:
        """Texels that show bare cheek in every portrait: (HEIGHT, WIDTH), bool."""
        place = self.places
        low, high = self.heights[2] + 0.05, self.heights[1] - 0.02
        band = (place[..., 1] > low) & (place[..., 1] < high)
        return np.asarray(band & (abs(abs(place[..., 0]) - 0.4) < 0.12) & (place[..., 2] > 0.9))

    @cached_property
    def heights(self) -> tuple[float, float, float]:
        """Heights of the eyes, the nose tip and the mouth on the mesh, decimetres."""
        anatomy, base = self.studio.anatomy, self.studio.anatomy.base
        marks = self.studio.where.on(base)
        eyes = float(np.concatenate([base[eye] for eye in anatomy.eyes])[:, 1].mean())
        return eyes, float(marks[NOSE_TIP, 1]), float(marks[list(LIPS_INNER), 1].mean())

    @cached_property
    def places(self) -> Array:
        """The mesh point that each texel shows: (HEIGHT, WIDTH, 3)."""
        anatomy = self.studio.anatomy
        return self.studio.atlas.spread(anatomy.refine(anatomy.base))

    @cached_property
    def regions(self) -> tuple[Array, Array]:
        """What belongs to eyes, nose and mouth: (3, coarse) and (3, HEIGHT, WIDTH), 0..1."""
        return self._regions(self.studio.anatomy.base[:, 1]), self._regions(self.places[..., 1])

    def _regions(self, y: Array) -> Array:
        eyes, nose, mouth = self.heights
        upper = smoothstep(y, eyes - 0.32, eyes - 0.12)
        above_lip = smoothstep(y, mouth + 0.02, nose - 0.02)
        return np.stack([upper, (1 - upper) * above_lip, (1 - upper) * (1 - above_lip)])

    @cached_property
    def brows(self) -> Array:
        """Where eyebrows may be: (HEIGHT, WIDTH), 0..1."""
        place, eyes = self.places, self.heights[0]
        up = smoothstep(place[..., 1], eyes + 0.1, eyes + 0.16)
        up *= 1 - smoothstep(place[..., 1], eyes + 0.42, eyes + 0.52)
        front = smoothstep(place[..., 2], 0.75, 0.95)
        return np.asarray(up * front * (1 - smoothstep(abs(place[..., 0]), 0.62, 0.72)))


def enlarged(small: Array) -> Array:
    """Bring smooth colour to the atlas's full size."""
    return np.asarray(cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC))


def _sex(folder: Path) -> str:
    details = json.loads((folder / "metadata.json").read_text())["character_details"]
    return str(details["demographics"]["sex"])
