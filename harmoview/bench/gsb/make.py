"""Making a study: packages that open from disk, and the key and the plan that stay behind."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from datapipe.concurrent import in_processes
from datapipe.errors import BadSample, SampleError, UserError
from datapipe.files import Folder
from datapipe.pictures import decode_jpeg, encode_jpeg
from dataset.inspect.page import assembled
from harmoview.bench.gsb.media import MIME, SUFFIX, Codec, native_copy, plain_copy
from harmoview.bench.gsb.plan import (
    AXES,
    BLURRED,
    FORMAT,
    Item,
    Package,
    Study,
    key_json,
    plan,
    plan_json,
    token,
)
from harmoview.bench.run import BenchRun, VideoKey
from harmoview.bench.suite import Suite
from harmoview.bench.suite_json import Case
from harmoview.bench.video import HEIGHT

MEDIA = "img-src 'self' file: data:; media-src 'self' file:"
"""What a package's page may show: the files beside it."""


@dataclass(frozen=True, slots=True)
class StudySettings:
    """What is asked, of how many, in which form."""

    base: str
    opponents: tuple[str, ...] = ()
    """None: every other method of the run."""
    raters: int = 3
    """Votes on every pair."""
    session: int = 60
    """Most items of a package."""
    axes: tuple[str, ...] = AXES[:1]
    codec: Codec = "h264"
    keep_native: bool = False
    """Copy the videos' own pictures instead of making all the same size and rate."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class _Source:
    """A video before it has lost its name."""

    key: VideoKey
    blurred: bool = False


@dataclass(frozen=True)
class _Copy:
    """One video for all the places in which it is shown."""

    source: _Source
    size: tuple[int, int]
    targets: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Made:
    """What a study holds."""

    packages: tuple[str, ...]
    pairs: dict[str, int]
    """By opponent."""
    alone: dict[str, int]
    """By opponent: videos of the base that have no counterpart."""


def make_study(
    run: BenchRun,
    out: Folder,
    wanted: StudySettings,
    workers: int,
    told: Callable[[int, int], None] = lambda done, of: None,
) -> Made:
    """Write the packages, then the key and the plan.

    The same settings and videos give the same bytes. `told` hears how many videos are written.
    Raises UserError where the folder holds a study already, or a method has no videos to judge.
    """
    if out.exists("plan.json"):
        raise UserError(f"{out.url} holds a study already; give another folder")
    pairs, alone = _pairs(run, wanted)
    study = plan(
        wanted.base,
        pairs,
        rounds=wanted.raters,
        session=wanted.session,
        axes=wanted.axes,
        seed=wanted.seed,
    )
    copies = _copies(run.suite, study, wanted)
    sha256: dict[str, str] = {}
    start = partial(partial, _write, run, out, wanted)
    made = in_processes(start, list(copies.values()), min(workers, len(copies)))
    for number, (targets, digest) in enumerate(made, 1):
        sha256 |= dict.fromkeys(targets, digest)
        told(number, len(copies))
    packages = {
        package.name: _write_package(run.suite, out, study, package, wanted, sha256)
        for package in study.packages
    }
    out.put("key.json", _json(key_json(study)))
    about = {"packages": packages, "suite_sha256": run.suite.sha256, "settings": asdict(wanted)}
    out.put("plan.json", _json(plan_json(study, **about)))
    return Made(tuple(packages), {name: len(keys) for name, keys in pairs.items()}, alone)


def _pairs(
    run: BenchRun, wanted: StudySettings
) -> tuple[dict[str, list[VideoKey]], dict[str, int]]:
    """By opponent, the base's videos that have a counterpart, and how many have none."""
    there: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for key in run.videos():
        there[key.method].add((key.case, key.seed))
    opponents = wanted.opponents or tuple(sorted(set(there) - {wanted.base}))
    for name in (wanted.base, *opponents):
        if name not in there:
            known = ", ".join(sorted(there)) or "none"
            raise UserError(f"there are no videos of {name!r}; of these there are: {known}")
    if wanted.base in opponents or not opponents:
        raise UserError(f"{wanted.base!r} needs other methods to be compared with")
    pairs, alone = {}, {}
    for name in opponents:
        both = sorted(there[wanted.base] & there[name])
        if not both:
            raise UserError(f"{wanted.base!r} and {name!r} have no video of one case and seed")
        pairs[name] = [VideoKey(wanted.base, case, seed) for case, seed in both]
        alone[name] = len(there[wanted.base]) - len(both)
    return pairs, alone


def _copies(suite: Suite, study: Study, wanted: StudySettings) -> dict[_Source, _Copy]:
    """Every video that is shown anywhere, with all the names under which it is."""
    found: dict[_Source, _Copy] = {}
    for package, item, side, target in _shown(study, wanted):
        del package
        blurred = side == BLURRED
        source = _Source(VideoKey(study.base if blurred else side, item.case, item.seed), blurred)
        size = _size(suite.case[item.case])
        found.setdefault(source, _Copy(source, size)).targets.append(target)
    return found


def _shown(study: Study, wanted: StudySettings) -> Iterator[tuple[Package, Item, str, str]]:
    """Each side of each item: package, item, method, and the video's name below the study."""
    for package in study.packages:
        for item in package.items:
            for place in ("left", "right"):
                name = _media(study, package, item, place, wanted)
                yield package, item, getattr(item, place), f"{package.name}/{name}"


def _media(study: Study, package: Package, item: Item, place: str, wanted: StudySettings) -> str:
    suffix = SUFFIX["h264" if wanted.keep_native else wanted.codec]
    return f"media/{token(study.seed, package.name, item.id, place)}{suffix}"


def _size(case: Case) -> tuple[int, int]:
    """Width and height of a case's videos, both even."""
    return round(HEIGHT * case.width / case.height / 2) * 2, HEIGHT


def _write(run: BenchRun, out: Folder, wanted: StudySettings, copy: _Copy) -> tuple[list[str], str]:
    """Put a video under all its names; these, and its hash."""
    source = copy.source
    with run.local(source.key) as path:
        try:
            data = _encoded(path, copy, wanted)
        except (BadSample, SampleError) as unfit:
            raise UserError(
                f"{source.key.path} cannot be shown: {unfit.reason}: {unfit}; take it out "
                "of the run, and the study is made without it"
            ) from unfit
    for target in copy.targets:
        out.put(target, data)
    return copy.targets, hashlib.sha256(data).hexdigest()


def _encoded(path: Path, copy: _Copy, wanted: StudySettings) -> bytes:
    if wanted.keep_native and not copy.source.blurred:
        return native_copy(path)
    codec: Codec = "h264" if wanted.keep_native else wanted.codec
    return plain_copy(path, copy.size, codec, blurred=copy.source.blurred)


def _write_package(
    suite: Suite,
    out: Folder,
    study: Study,
    package: Package,
    wanted: StudySettings,
    sha256: Mapping[str, str],
) -> str:
    """References and the page; the package's hash, which its answers carry."""
    items, hashes = [], []
    for item in package.items:
        sides = {side: _media(study, package, item, side, wanted) for side in ("left", "right")}
        hashes += [sha256[f"{package.name}/{name}"] for name in sides.values()]
        references = _references(suite, out, study, package, item)
        prompt = suite.case[item.case].prompt
        items.append({"id": item.id, "prompt": prompt, "references": references, **sides})
    data = {
        "format": FORMAT,
        "name": package.name,
        "axes": list(study.axes),
        "mime": MIME["h264" if wanted.keep_native else wanted.codec],
        "items": items,
    }
    digest = hashlib.sha256(json.dumps([data, hashes], sort_keys=True).encode()).hexdigest()
    page = assembled("harmoview.bench.gsb", ("page.js",), {**data, "package": digest}, MEDIA)
    out.put(f"{package.name}/index.html", page)
    return digest


def _references(
    suite: Suite, out: Folder, study: Study, package: Package, item: Item
) -> list[dict[str, Any]]:
    """Each person of a case with all their views, under names and in files that tell nothing."""
    people = []
    for who in suite.case[item.case].identities:
        files = []
        for yaw in suite.yaws:
            name = f"refs/{token(study.seed, package.name, who.id, yaw)}.jpg"
            target = f"{package.name}/{name}"
            if not out.exists(target):  # a person is in many items
                out.put(target, encode_jpeg(decode_jpeg(suite.picture(who.id, yaw))))
            files.append(name)
        people.append({"label": who.label, "files": files})
    return people


def _json(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()
