"""Takes given as pictures: a folder of them for each take, each named by its yaw."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2

from datapipe.corpus.keys import file_key
from datapipe.errors import BadSample
from datapipe.faces.base import FaceAnalyzer
from datapipe.faces.quality import FACE_SIZE
from datapipe.pictures import decode_jpeg
from datapipe.record import Sample, Source
from lora_engine.acquire import yaw_geometry
from lora_engine.acquire.choice import Choice, merit, whole
from lora_engine.acquire.pick import PickedFrames, numbered
from lora_engine.acquire.settings import AcquireSettings
from lora_engine.acquire.subject_search import BOUND

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
FOLDER = "/"
"""The `suffix` of a sample that is a folder of pictures."""
_NAME = re.compile(r"(?:yaw)?([+-]\d{1,2}|00?)(?:[._-].*)?", re.IGNORECASE)
"""`-30.jpg`, `yaw+60.png`, `0.jpg`, `+30_second.jpg`; without a sign a number may mean anything."""


def picture_takes(corpus: str) -> list[Sample]:
    """Return a sample for each folder below a folder that holds pictures named by their yaw.

    Empty for whatever else a corpus may be.
    """
    root = Path(corpus)
    folders = sorted({path.parent for path in root.rglob("*") if _yaw(path) is not None})
    return [
        Sample(file_key(f"{folder.relative_to(root).as_posix()}.mp4"), Source(str(folder), FOLDER))
        for folder in folders
    ]


def pictures_of(take: Path) -> dict[Path, int]:
    """Return the pictures of a take with the yaw that each is named by, in order of their names."""
    found = {path: _yaw(path) for path in sorted(take.iterdir())}
    return {path: yaw for path, yaw in found.items() if yaw is not None}


def _yaw(path: Path) -> int | None:
    named = _NAME.fullmatch(path.stem)
    if path.suffix.lower() not in SUFFIXES or named is None or not path.is_file():
        return None
    return int(named[1])


def pick_pictures(faces: FaceAnalyzer, settings: AcquireSettings, take: Path) -> PickedFrames:
    """Pick the best pictures of a take for each yaw that it has, by their names.

    Pictures that cannot be read or show no face are passed over. Those named by up to 15 degrees
    are references too. Raises BadSample (`no_face`, `no_frontal`, `too_small`, `too_blurred`).
    """
    named = pictures_of(take)
    by_yaw = _choices(faces, named)
    if not by_yaw:
        raise BadSample("no_face", f"no face in {len(named)} pictures")
    straight = by_yaw.get(0)
    if not straight:
        shown = ", ".join(f"{yaw:+d}" for yaw in sorted(by_yaw))
        raise BadSample("no_frontal", f"no face in a picture named by yaw 0, only by {shown}")
    frontal = straight[0]
    if frontal.sharp is None:
        detail = f"face of {frontal.face.size:.0f} pixels, at least {FACE_SIZE} are needed"
        raise BadSample("too_small", detail)
    if frontal.sharp < BOUND.min_sharpness:
        raise BadSample("too_blurred", f"no frontal picture is as sharp as {BOUND.min_sharpness:g}")
    shapes = [choice.image.shape for some in by_yaw.values() for choice in some]
    least = min(min(shape[:2]) for shape in shapes)  # the cameras of a rig may differ
    side = yaw_geometry.square_side(frontal.face.size, least, least)
    kept = {yaw: by_yaw[yaw][: settings.frames] for yaw in sorted(settings.yaws) if yaw in by_yaw}
    turned = [yaw for yaw in sorted(by_yaw, key=abs) if abs(yaw) <= BOUND.max_yaw]
    near = [choice for yaw in turned for choice in by_yaw[yaw]]
    references = [c for c in near if c.sharp is not None and c.sharp >= BOUND.min_sharpness]
    vector = faces.embed(frontal.image, [frontal.face])[0]
    return numbered(
        kept,
        references[: settings.references],
        lambda choice, yaw: choice.cut_to(frontal, side, settings.side, yaw, 0.0),
        embedding=tuple(float(x) for x in vector),
        looked=len(named),
        total=len(named),
    )


def _choices(faces: FaceAnalyzer, named: Mapping[Path, int]) -> dict[int, Sequence[Choice]]:
    """Measure the largest face of each picture; by yaw, those of greatest merit first."""
    by_yaw: dict[int, list[Choice]] = defaultdict(list)
    for place, (path, yaw) in enumerate(named.items()):
        try:
            image = decode_jpeg(path.read_bytes())
        except (ValueError, cv2.error):
            continue
        found = sorted(faces.find([image])[0], key=lambda face: -face.size)
        if found and whole(found[0], image):
            sharp, worth = merit(image, found[0], found[1:], yaw)
            by_yaw[yaw].append(Choice(place, image, found[0], float(yaw), sharp, worth))
    return {yaw: sorted(some, key=lambda c: (-c.merit, c.frame)) for yaw, some in by_yaw.items()}
