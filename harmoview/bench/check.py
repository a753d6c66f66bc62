"""Everything that is wrong with a suite, by name: errors keep it from being used."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from datapipe.faces.base import Face, FaceAnalyzer
from datapipe.files import Folder
from datapipe.pictures import decode_jpeg
from datapipe.record import Image
from filters.rules import PROFILE, IdentityRule
from filters.rules_file import default_identity
from harmoview.bench.suite import (
    case_lines,
    identity_names,
    picture_name,
    picture_names,
    read_head,
    read_identity,
    suite_sha256,
)
from harmoview.bench.suite_json import Case, MalformedSuite, SuiteIdentity, parse_case

Floats = npt.NDArray[np.float32]
Told = Callable[[str], None]

SMALL = 256
"""Side in pixels under which a reference shows too little."""
YAW_OFF = 10.0
"""Degrees that a measured yaw may be off its slot."""
PROFILE_READS = 75.0
"""Degrees that a profile must read at least: estimators fold back at 90."""
ALIKE = 0.6
"""Cosine of two frontal references above which the people of a case can hardly be told apart."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong."""

    level: Literal["error", "warning"]
    where: str
    what: str


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was found in a picture."""

    face: Face
    vector: Floats


def check(folder: Folder, faces: FaceAnalyzer, told: Told = lambda name: None) -> list[Problem]:
    """All problems of a suite; `faces` is set up. `told` hears each identity's name."""
    try:
        head = read_head(folder)
    except FileNotFoundError:
        return [Problem("error", "suite.json", "there is no such file; `bench make` writes one")]
    except MalformedSuite as wrong:
        return [Problem("error", "suite.json", str(wrong))]
    problems = list(_head_problems(folder, head))
    cases = _cases(folder, head["yaws"], problems)
    names = identity_names(folder)
    used = {who.id for case in cases for who in case.identities}
    for case in cases:
        problems += [
            Problem("error", f"case {case.id}", f"there is no identities/{who.id}")
            for who in case.identities
            if who.id not in names
        ]
    if not names:
        problems.append(Problem("error", "identities", "there are none"))
    for name in names:
        if name not in used:
            problems.append(Problem("warning", f"identities/{name}", "no case shows this person"))
    hashes: dict[str, list[str]] = defaultdict(list)
    fronts: dict[str, Floats] = {}
    curve = default_identity(faces.recogniser)
    for name in names:
        told(name)
        problems += _identity_problems(folder, name, head["yaws"], hashes)
        problems += _picture_problems(folder, name, head["yaws"], faces, curve, fronts)
    problems += _duplicates(hashes)
    problems += _look_alikes(cases, fronts)
    return problems


def _head_problems(folder: Folder, head: dict[str, Any]) -> Iterator[Problem]:
    if not head["licence"]:
        yield Problem("error", "suite.json", "no licence is given")
    if not head["suite_sha256"]:
        yield Problem("warning", "suite.json", "the suite is not sealed: --seal does it")
    elif suite_sha256_or_none(folder, head) != head["suite_sha256"]:
        what = "the suite was changed since it was sealed: --seal makes it a suite of its own"
        yield Problem("error", "suite.json", what)


def suite_sha256_or_none(folder: Folder, head: dict[str, Any]) -> str | None:
    """The hash of the suite as it is; None where a file is missing."""
    try:
        return suite_sha256(folder, head)
    except FileNotFoundError:
        return None


def _cases(folder: Folder, yaws: tuple[int, ...], problems: list[Problem]) -> list[Case]:
    """The cases that can be read; what is wrong with the others, and doubles, go to `problems`."""
    try:
        lines = case_lines(folder)
    except FileNotFoundError:
        problems.append(Problem("error", "cases.jsonl", "there is no such file"))
        return []
    cases = []
    for number, line in enumerate(lines, 1):
        try:
            cases.append(parse_case(line, yaws))
        except MalformedSuite as wrong:
            problems.append(Problem("error", f"cases.jsonl, case {number}", str(wrong)))
    if not lines:
        problems.append(Problem("error", "cases.jsonl", "it holds no case"))
    for what, values in (
        ("id", [case.id for case in cases]),
        ("prompt", [case.prompt.strip() for case in cases]),
    ):
        for place, value in enumerate(values):
            if (first := values.index(value)) < place:
                text = f"has the same {what} as case {cases[first].id} before it"
                problems.append(Problem("error", f"case {cases[place].id}", text))
    return cases


def _identity_problems(
    folder: Folder, name: str, yaws: tuple[int, ...], hashes: dict[str, list[str]]
) -> Iterator[Problem]:
    """Of identity.json; the pictures' hashes are added to `hashes`."""
    where = f"identities/{name}"
    stored: SuiteIdentity | None = None
    try:
        stored = read_identity(folder, name)
    except FileNotFoundError:
        yield Problem("error", where, "there is no identity.json")
    except MalformedSuite as wrong:
        yield Problem("error", where, str(wrong))
    if stored is not None:
        for key in ("licence", "source", "creator"):
            if not getattr(stored, key):
                level: Literal["error", "warning"] = "error" if key == "licence" else "warning"
                yield Problem(level, f"{where}/identity.json", f"no {key} is given")
        if stored.kind == "real" and not stored.consent:
            what = "a real person, and no consent is given"
            yield Problem("error", f"{where}/identity.json", what)
    there = {path.split("/")[-1] for path in folder.names(f"{where}/*")}
    for file in picture_names(yaws):
        if file not in there:
            yield Problem("error", f"{where}/{file}", "the picture is missing")
            continue
        digest = hashlib.sha256(folder.read(f"{where}/{file}")).hexdigest()
        hashes[digest].append(f"{where}/{file}")
        if stored is not None and stored.pictures.get(file, digest) != digest:
            yield Problem("error", f"{where}/{file}", "the picture was changed since sealing")


def _picture_problems(
    folder: Folder,
    name: str,
    yaws: tuple[int, ...],
    faces: FaceAnalyzer,
    curve: IdentityRule | None,
    fronts: dict[str, Floats],
) -> Iterator[Problem]:
    """Of what the pictures show; the reference's embedding is added to `fronts`."""
    seen: dict[int | None, _Seen] = {}
    there = set(folder.names(f"identities/{name}/*.jpg"))
    for yaw in (None, *yaws):
        where = f"identities/{name}/{picture_name(yaw)}"
        if where not in there:
            continue
        try:
            picture = decode_jpeg(folder.read(where))
        except ValueError:
            yield Problem("error", where, "the file is not a JPEG picture")
            continue
        side = min(picture.shape[:2])
        if side < SMALL:
            yield Problem("warning", where, f"is small: {side} pixels, under {SMALL}")
        found = _look(picture, faces)
        if found is None:
            yield Problem("error", where, f"no face was found by {faces.name}")
            continue
        seen[yaw] = found
        yield from _pose_problems(where, 0 if yaw is None else yaw, found.face)
    if None not in seen:
        return
    fronts[name] = seen[None].vector
    for yaw, one in seen.items():
        if yaw is None or curve is None or abs(yaw) > curve.judged_to:
            continue
        cosine, least = float(one.vector @ seen[None].vector), curve.threshold(yaw)
        if cosine < least:
            what = f"cosine {cosine:.2f} to the reference, under {least:.2f} at this yaw"
            yield Problem("warning", f"identities/{name}/{picture_name(yaw)}", what)


def _look(picture: Image, faces: FaceAnalyzer) -> _Seen | None:
    found = faces.find([picture])[0]
    return _Seen(found[0], faces.embed(picture, found[:1])[0]) if found else None


def _pose_problems(where: str, yaw: int, face: Face) -> Iterator[Problem]:
    if face.pose is None:
        yield Problem("warning", where, "the pose could not be measured")
        return
    measured = face.pose.yaw
    if abs(yaw) >= PROFILE:
        if measured * np.sign(yaw) < PROFILE_READS:
            what = f"yaw reads {measured:+.0f}°, a profile must read {PROFILE_READS:g} or more"
            yield Problem("warning", where, what)
    elif abs(measured - yaw) > YAW_OFF:
        what = f"yaw reads {measured:+.0f}°, more than {YAW_OFF:g} off {yaw:+d}°"
        yield Problem("warning", where, what)


def _duplicates(hashes: dict[str, list[str]]) -> Iterator[Problem]:
    """One picture under several names; a person's reference may be their view at 0."""
    front = picture_name(0)
    for names in hashes.values():
        folders = {name.rsplit("/", 1)[0] for name in names}
        files = {name.rsplit("/", 1)[1] for name in names}
        own = len(folders) == 1 and files == {picture_name(None), front}
        if len(names) > 1 and not own:
            yield Problem("error", names[1], f"is the same picture as {names[0]}")


def _look_alikes(cases: Sequence[Case], fronts: dict[str, Floats]) -> Iterator[Problem]:
    for case in cases:
        vectors = [fronts[who.id] for who in case.identities if who.id in fronts]
        if len(vectors) == 2 and (cosine := float(vectors[0] @ vectors[1])) > ALIKE:
            what = f"its people look alike: cosine {cosine:.2f}, over {ALIKE:g}"
            yield Problem("warning", f"case {case.id}", what)
