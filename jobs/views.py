"""`harmoview views`: seven views of single portraits, with a contact sheet."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from datapipe.errors import BadSample, UserError
from datapipe.faces.base import FaceAnalyzer
from datapipe.files import Folder
from datapipe.line.stages import view_seed
from datapipe.pictures import decode_jpeg, encode_jpeg
from datapipe.prepare.frontal import FrontalBound, cut, portrait_square
from datapipe.record import Image
from filters.score import subject
from jobs.cli import command
from jobs.options.engine import EngineOptions, FaceSettings
from jobs.options.line import WantedViews
from lora_engine.views import MeasuredView, PersonViews, grid

PORTRAIT_SIDE = 1024
"""Pixels, at most, of the portrait that is cut around the face."""


@dataclass(frozen=True)
class ViewsSettings:
    """Make views of the people in pictures: of each picture, the one with the largest face.

    Writes OUT/NAME/reference.jpg, OUT/NAME/yaw-90.jpg … yaw+90.jpg and views.json for every
    picture, a folder that `harmoview generate --identity` takes, and OUT/contact-sheet.jpg.
    """

    images: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="PICTURE …"),
    ]
    """Pictures that each show a person facing the camera."""
    out: Path
    """The folder to write to."""
    engine: tyro.conf.OmitArgPrefixes[EngineOptions] = field(default_factory=EngineOptions)
    views: tyro.conf.OmitArgPrefixes[WantedViews] = field(default_factory=WantedViews)
    faces: tyro.conf.OmitArgPrefixes[FaceSettings] = field(default_factory=FaceSettings)
    quiet: bool = False
    """Print nothing but errors."""


def execute(settings: ViewsSettings) -> int:
    """Cut the portraits, make their views, write them; 1 where a picture gives none.

    Raises UserError for a file that is not there, where none is a picture, and where a model is
    missing.
    """
    pictures = _named(settings.images)
    faces = settings.faces.load()
    synthesizer = settings.engine.load(settings.views.yaws)
    made_by = synthesizer.provenance()
    faces.setup()
    synthesizer.setup()
    out, people = Folder(settings.out), []
    for name, picture in pictures.items():
        try:
            reference = _portrait(faces, picture)
            seeds = [view_seed(settings.views.seed, name, 0, yaw) for yaw in settings.views.yaws]
            views = synthesizer(reference, settings.views.yaws, seeds)
        except BadSample as bad:
            print(f"harmoview views: {name}: {bad}", file=sys.stderr)
            continue
        measured = measure_views(faces, reference, views)
        person = PersonViews(
            name,
            reference,
            dict(zip(settings.views.yaws, views, strict=True)),
            dict(zip(settings.views.yaws, measured, strict=True)),
        )
        _write(out.folder(name), person, seeds, made_by)
        people.append(person)
        if not settings.quiet:
            print(f"{name}: {len(views)} views in {settings.out / name}")
    if people:
        out.put("contact-sheet.jpg", encode_jpeg(grid(people)))
    return 0 if len(people) == len(settings.images) else 1


def _named(paths: Sequence[Path]) -> dict[str, Image]:
    """The pictures by a name of their own; what is not a picture is told and left out.

    Raises UserError for a file that is not there, and where no picture is left.
    """
    pictures: dict[str, Image] = {}
    told: list[str] = []
    for path in paths:
        try:
            picture = decode_jpeg(path.read_bytes())
        except OSError as wrong:
            raise UserError(f"{path}: {wrong.strerror}; give a picture") from wrong
        except ValueError:
            told.append(f"{path}: not a picture that can be read; give a JPEG or PNG")
            continue
        name, number = path.stem, 1
        while name in pictures:
            number += 1
            name = f"{path.stem}-{number}"
        pictures[name] = picture
    if told and not pictures:
        raise UserError("\n".join(told))
    for one in told:
        print(f"harmoview views: {one}", file=sys.stderr)
    return pictures


def _portrait(faces: FaceAnalyzer, picture: Image) -> Image:
    """The square around the largest face, if it is as frontal as references are.

    Raises BadSample.
    """
    found = faces.find([picture])[0]
    if not found:
        raise BadSample("no_face", "no face in the picture")
    pose, bound = found[0].pose, FrontalBound()
    if pose is None or abs(pose.yaw) > bound.max_yaw or abs(pose.pitch) > bound.max_pitch:
        turned = (
            "an unknown pose" if pose is None else f"yaw {pose.yaw:+.0f}°, pitch {pose.pitch:+.0f}°"
        )
        detail = f"the face has {turned}; ±{bound.max_yaw:g}° and ±{bound.max_pitch:g}° are allowed"
        raise BadSample("no_frontal", detail)
    height, width = picture.shape[:2]
    neighbours = [face.box for face in found[1:]]
    return cut(picture, portrait_square(found[0].box, width, height, neighbours), PORTRAIT_SIDE)


def measure_views(
    faces: FaceAnalyzer, reference: Image, views: Sequence[Image]
) -> list[MeasuredView]:
    """The yaw and the identity cosine of each view, on the face that the line would score.

    `faces` has been set up.
    """
    pictures = [reference, *views]
    found = [subject(*pair) for pair in zip(pictures, faces.find(pictures), strict=True)]
    vectors = [
        None if face is None else faces.embed(picture, [face])[0]
        for picture, face in zip(pictures, found, strict=True)
    ]
    anchor = vectors[0]
    return [
        MeasuredView(
            None if face is None or face.pose is None else face.pose.yaw,
            None if anchor is None or vector is None else float(anchor @ vector),
        )
        for face, vector in zip(found[1:], vectors[1:], strict=True)
    ]


def _write(
    folder: Folder, person: PersonViews, seeds: Sequence[int], made_by: dict[str, object]
) -> None:
    folder.put("reference.jpg", encode_jpeg(person.reference))
    rows = []
    for (yaw, view), seed in zip(person.views.items(), seeds, strict=True):
        name = f"yaw{yaw:+03d}.jpg"
        folder.put(name, encode_jpeg(view))
        measured = person.measured[yaw]
        rows.append(
            {
                "file": name,
                "yaw": yaw,
                "seed": seed,
                "measured_yaw": measured.yaw,
                "identity_cosine": measured.cosine,
            }
        )
    about = {"views": rows, "made_by": made_by}
    folder.put("views.json", json.dumps(about, indent=1).encode())


main = command(__name__, ViewsSettings, execute, first=("engine", "base", "lora", "seed"))
