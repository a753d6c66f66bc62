"""People of known yaw for `benchmarks.filters`: rendered, spoilt and measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from datapipe.faces import face_analyzer
from datapipe.line.stages import view_seed
from datapipe.models import model_path
from datapipe.models.catalogue import PORTRAITS
from datapipe.pictures import decode_jpeg, encode_jpeg
from datapipe.prepare.prepare import Prepare, PrepareSettings
from datapipe.record import YAWS, Image, Sample, Scores, Source
from datapipe.stage import Resources
from filters.aesthetic import Brisque
from filters.score import MeasuredPicture, measure
from lora_engine.mesh.engine import MeshSynthesizer

GRID = tuple(range(-90, 91, 15))


def _blurred(sigma: float) -> Callable[[Image], Image]:
    return lambda image: cv2.GaussianBlur(image, (0, 0), sigma)


def _noisy(image: Image) -> Image:
    noise = np.random.default_rng(0).normal(0, 25, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def _compressed(image: Image) -> Image:
    return decode_jpeg(cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 10])[1])


@dataclass(frozen=True)
class Person:
    """Someone's reference picture."""

    group: str
    """Where the picture comes from: people of one group are compared with each other."""
    name: str
    who: str
    """The person's own name, which several pictures may share."""
    sex: str
    reference: Image


def people(clips: Path | None) -> Iterator[Person]:
    """The portraits' people, by portrait and by selfie, and those of the virtual clips."""
    folder = model_path("portraits")
    for picture in ("studio_portrait", "amateur_selfie"):
        for who in PORTRAITS:
            described = json.loads((folder / who / "metadata.json").read_text())
            image = decode_jpeg((folder / who / "assets" / f"{picture}.jpg").read_bytes())
            sex = described["character_details"]["demographics"]["sex"]
            yield Person("portraits", f"{who}-{picture}", who, sex, _portrait(image))
    prepare = Prepare(PrepareSettings(), face_analyzer("light"), resources=Resources(num_cpus=1))
    prepare.setup()
    for clip in sorted(clips.glob("*.mp4")) if clips else ():
        sample = prepare(Sample(clip.stem, Source(str(clip), ".mp4")))
        sex = "male" if clip.with_suffix(".txt").read_text().startswith("A man") else "female"
        reference = decode_jpeg(sample.identities[0].portrait)
        yield Person("virtual subjects", clip.stem, clip.stem, sex, reference)


def _portrait(image: Image) -> Image:
    """The upper square of a tall picture, at the side of a reference."""
    side = min(image.shape[:2])
    left = (image.shape[1] - side) // 2
    square = image[:side, left : left + side]
    return cv2.resize(square, (512, 512), interpolation=cv2.INTER_AREA)


FAULTS: dict[str, Callable[[Image], Image]] = {
    "blur 1": _blurred(1),
    "blur 2": _blurred(2),
    "blur 4": _blurred(4),
    "noise 25": _noisy,
    "JPEG 10": _compressed,
}


@dataclass(frozen=True)
class Case:
    """A person with everything measured on it."""

    person: Person
    reference: MeasuredPicture
    views: dict[int, MeasuredPicture]
    """What was measured of each view, by yaw on the grid."""
    faulty: dict[str, dict[int, MeasuredPicture]]
    """The same of spoilt views, by fault and yaw, at the default yaws."""

    def scores(self, yaw: int) -> Scores:
        return self.views[yaw].against(self.reference)


def measured_people(clips: Path | None) -> Iterator[Case]:
    """Render and measure people, one after the other."""
    faces, brisque, engine = face_analyzer("light"), Brisque(), MeshSynthesizer()
    for part in (faces, brisque, engine):
        part.setup()
    for person in people(clips):
        made = engine(person.reference, GRID, [view_seed(0, person.name, 0, y) for y in GRID])
        views = [decode_jpeg(encode_jpeg(view)) for view in made]
        reference, *measured = measure([person.reference, *views], faces, brisque)
        asked = [view for view, yaw in zip(views, GRID, strict=True) if yaw in YAWS]
        faulty = {
            name: dict(zip(YAWS, measure(list(map(spoil, asked)), faces, brisque), strict=True))
            for name, spoil in FAULTS.items()
        }
        yield Case(person, reference, dict(zip(GRID, measured, strict=True)), faulty)
