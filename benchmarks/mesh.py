"""The mesh engine measured: yaw, identity, speed, and how different invented people are.

    python -m benchmarks.mesh            # nine portraits and 40 invented people, some 5 minutes
    python -m benchmarks.mesh --subjects 200
    python -m benchmarks.mesh --sheet docs/pictures/mesh-views.jpg

Everything is judged by the light face pack: 3DDFA_V2 for yaw, SFace for identity.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray

from datapipe.faces.light import LightFaces
from datapipe.models import model_path
from datapipe.record import YAWS, Image, Pose
from lora_engine.mesh.engine import MeshSettings, MeshSynthesizer
from lora_engine.mesh.render import HeadShot, Sensor, render
from lora_engine.mesh.studio import build
from lora_engine.subjects.clip import camera_for, scene
from lora_engine.subjects.gallery import Gallery
from lora_engine.subjects.people import invent

SHEET_PORTRAITS, SHEET_PEOPLE, CELL = (0, 2, 3, 6), 5, (160, 160)
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class MeshBenchmark:
    """Measure the mesh engine."""

    subjects: int = 40
    """Invented people; each is rendered once from the front and lifted again from that picture."""
    lifted: int = 20
    """Invented people who are lifted again, of these."""
    size: int = 512
    seed: int = 0
    sheet: Path | None = None
    """Only write a picture here: references and their seven views."""


@dataclass(frozen=True)
class Measured:
    """One person's reference and views."""

    reference: Vectors
    views: dict[int, Vectors]
    yaws: dict[int, float]
    seconds: float


def main(settings: MeshBenchmark) -> None:
    faces = LightFaces()
    faces.setup()
    engine = MeshSynthesizer(MeshSettings(size=settings.size))
    engine.setup()
    portraits = _portraits()
    engine(portraits[0], YAWS, range(len(YAWS)))  # compiles
    if settings.sheet:
        people = _invented(replace(settings, subjects=SHEET_PEOPLE))
        _write_sheet(settings.sheet, engine, [*(portraits[k] for k in SHEET_PORTRAITS), *people])
        return
    people = _invented(settings)
    for title, references in (
        ("studio portraits", portraits),
        ("invented people", people[: settings.lifted]),
    ):
        found = [_measure(engine, faces, picture) for picture in references]
        measured = [item for item in found if item is not None]
        print(f"\n{title}: {len(measured)} of {len(references)} lifted")
        _print_views(measured)
    _print_distances(faces, people)


def _write_sheet(path: Path, engine: MeshSynthesizer, references: list[Image]) -> None:
    """One row a person: the reference, then its views from left to right."""
    rows = []
    for reference in references:
        pictures = [reference, *engine(reference, YAWS, range(len(YAWS)))]
        rows.append(
            np.hstack([cv2.resize(p, CELL, interpolation=cv2.INTER_AREA) for p in pictures])
        )
    sheet = cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)
    _, code = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, 86])
    path.write_bytes(code.tobytes())


def _portraits() -> list[Image]:
    paths = sorted(model_path("portraits").glob("*/assets/studio_portrait.jpg"))
    pictures = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths]
    return [cv2.resize(p, (1024, 1024), interpolation=cv2.INTER_AREA) for p in pictures]


def _invented(settings: MeshBenchmark) -> list[Image]:
    """Frontal pictures of invented people, each in a place of its own."""
    gallery, pictures = Gallery(), []
    for index in range(settings.subjects):
        rng = np.random.default_rng([settings.seed, index])
        place = scene(1.0, rng)
        head = build(invent(gallery, rng).person, gallery.studio, index)
        shot = HeadShot(head, Pose(0, 0, 0), camera_for(head, 0, 1, rng), place.light)
        picture = render([shot], (settings.size, settings.size), place.background)
        pictures.append(Sensor()(picture, rng))
    return pictures


def _measure(engine: MeshSynthesizer, faces: LightFaces, reference: Image) -> Measured | None:
    begin = time.process_time()
    views = engine(reference, YAWS, range(len(YAWS)))
    seconds = (time.process_time() - begin) / len(YAWS)
    first = faces.find([reference])[0]
    if not first:
        return None
    vectors, yaws = {}, {}
    for yaw, view, found in zip(YAWS, views, faces.find(views), strict=True):
        if found and found[0].pose is not None:
            vectors[yaw] = faces.embed(view, found[:1])[0]
            yaws[yaw] = found[0].pose.yaw
    return Measured(faces.embed(reference, first[:1])[0], vectors, yaws, seconds)


def _print_views(measured: list[Measured]) -> None:
    print("  yaw  found  measured yaw  error | same: mean   min | different: mean   99%   max")
    errors: list[float] = []
    for yaw in YAWS:
        read = np.array([m.yaws[yaw] for m in measured if yaw in m.yaws])
        errors.extend(abs(read - yaw))
        same = np.array([m.reference @ m.views[yaw] for m in measured if yaw in m.views])
        other = np.array(
            [a.reference @ b.views[yaw] for a in measured for b in measured
             if a is not b and yaw in b.views]
        )  # fmt: skip
        print(
            f"  {yaw:+4d}  {len(read):4d}  {read.mean():+9.1f}  {abs(read - yaw).mean():8.1f} |"
            f" {same.mean():10.2f} {same.min():5.2f} |"
            f" {other.mean():15.2f} {np.percentile(other, 99):5.2f} {other.max():5.2f}"
        )
    seconds = np.mean([m.seconds for m in measured])
    print(f"  mean absolute yaw error {np.mean(errors):.1f} degrees")
    print(f"  {seconds:.2f} s of one core a view, with its share of the fit")


def _print_distances(faces: LightFaces, people: list[Image]) -> None:
    found = faces.find(people)
    vectors = np.stack([faces.embed(p, f[:1])[0] for p, f in zip(people, found, strict=True) if f])
    pairs = np.array([vectors[a] @ vectors[b] for a, b in combinations(range(len(vectors)), 2)])
    closest = (vectors @ vectors.T - 2 * np.eye(len(vectors))).max(axis=1)
    print(f"\n{len(vectors)} invented people, frontal, {len(pairs)} pairs: SFace cosine")
    for share in (50, 90, 99, 99.9):
        print(f"  {share:5.1f} % of pairs lie below {np.percentile(pairs, share):.2f}")
    print(f"  mean {pairs.mean():.2f}, max {pairs.max():.2f}")
    print(f"  nearest neighbour of a person: mean {closest.mean():.2f}, max {closest.max():.2f}")


if __name__ == "__main__":
    main(tyro.cli(MeshBenchmark))
