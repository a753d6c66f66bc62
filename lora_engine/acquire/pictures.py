"""Takes given as pictures: a folder of them for each take, each named by its yaw; or reference
pictures, and targets whose captions say the yaw.
"""

from __future__ import annotations

import glob
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from datapipe.corpus.names import file_key
from datapipe.errors import BadSample, UserError
from datapipe.faces.base import FaceAnalyzer
from datapipe.faces.crops import FACE_SIZE
from datapipe.pictures import decode_jpeg
from datapipe.record import Sample, Source
from lora_engine.acquire import yaw_geometry
from lora_engine.acquire.pick import Choice, PickedFrames, merit, numbered, whole
from lora_engine.acquire.settings import AcquireSettings
from lora_engine.acquire.subject_search import BOUND

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
FOLDER = "/"
"""The `suffix` of a sample whose take is pictures."""
REFERENCES, TARGETS, CAPTIONS, PROMPTS = "reference", "target", "caption", "prompts.toml"
"""What a corpus of captioned targets has."""
_NAME = re.compile(r"(?:yaw)?([+-]\d{1,2}|00?)(?:[._-].*)?", re.IGNORECASE)
"""`-30.jpg`, `yaw+60.png`, `0.jpg`, `+30_second.jpg`; without a sign a number may mean anything."""


def picture_takes(corpus: str) -> list[Sample]:
    """Return a sample for each folder below a folder that holds pictures named by their yaw, or for
    each picture in `reference`, where there is a folder `target` too.

    Empty for whatever else a corpus may be.
    """
    root = Path(corpus)
    if (root / REFERENCES).is_dir() and (root / TARGETS).is_dir():
        shown = {path.stem: path for path in sorted((root / REFERENCES).iterdir())
                 if _is_picture(path)}  # fmt: skip
        return [Sample(file_key(f"{name}.mp4"), Source(str(path), FOLDER))
                for name, path in shown.items()]  # fmt: skip
    folders = sorted({path.parent for path in root.rglob("*") if _yaw(path) is not None})
    return [
        Sample(file_key(f"{folder.relative_to(root).as_posix()}.mp4"), Source(str(folder), FOLDER))
        for folder in folders
    ]


def pictures_of(take: Path) -> dict[Path, int]:
    """Return the pictures of a take with the yaw of each, in order of their names.

    `take` is a folder, or a reference picture. Raises UserError as `captioned` does.
    """
    if take.is_file():
        return captioned(take)
    found = {path: _yaw(path) for path in sorted(take.iterdir())}
    return {path: yaw for path, yaw in found.items() if yaw is not None}


def captioned(reference: Path) -> dict[Path, int]:
    """Return a reference, which stands for 0, and its targets with the yaws of their captions.

    A target has its reference's name, or that and more behind a dot or one of _-+; its caption, in
    `caption` or beside it, is the prompt of a yaw: one of prompts.toml (`train-lora --prompts`), or
    the standard one. Raises UserError for a target whose caption is missing or no yaw's.
    """
    from lora_engine.flux.prompts import read_prompts, standard  # torch: nobody else needs it here

    root, yaws = reference.parent.parent, range(-90, 91)
    own = root / PROMPTS
    texts = read_prompts(own, None) if own.is_file() else standard(yaws)
    by_text = {text.strip(): yaw for yaw, text in texts.items()}
    found = {reference: 0}
    for target in sorted((root / TARGETS).glob(f"{glob.escape(reference.stem)}*")):
        if not _is_picture(target) or _reference_of(target) != reference.stem:
            continue
        files = (root / CAPTIONS / f"{target.stem}.txt", target.with_suffix(".txt"))
        file = next((file for file in files if file.is_file()), None)
        if file is None:
            raise UserError(f"{target}: has no caption; put it into {files[0]}")
        text = file.read_text("utf-8").strip()
        if text not in by_text:
            known = own if own.is_file() else "the prompts that train-lora has"
            raise UserError(
                f"{file}: the caption is none of {known}, so the yaw is not known; put a table of "
                f'your captions by yaw ("+30" = "…") into {own}'
            )
        found[target] = by_text[text]
    return found


def _reference_of(target: Path) -> str | None:
    """Return the name of the target's reference: of several that fit, the longest."""
    folder, name = target.parent.parent / REFERENCES, target.stem
    ends = [at for at in range(len(name), 0, -1) if at == len(name) or name[at] in "._-+"]
    suffixes = (*SUFFIXES, *map(str.upper, SUFFIXES))
    for end in ends:
        if any((folder / f"{name[:end]}{suffix}").is_file() for suffix in suffixes):
            return name[:end]
    return None


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _yaw(path: Path) -> int | None:
    named = _NAME.fullmatch(path.stem)
    return int(named[1]) if named is not None and _is_picture(path) else None


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
        except ValueError:
            continue
        found = sorted(faces.find([image])[0], key=lambda face: -face.size)
        if found and whole(found[0], image):
            sharp, worth = merit(image, found[0], found[1:], yaw)
            by_yaw[yaw].append(Choice(place, image, found[0], float(yaw), sharp, worth))
    return {yaw: sorted(some, key=lambda c: (-c.merit, c.frame)) for yaw, some in by_yaw.items()}
