"""A suite out of packed shards: people with all their views, captions as prompts."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.pictures import parse_name
from harmoview.bench.suite import picture_name, seal, write_head
from harmoview.bench.suite_json import (
    MOST_IDENTITIES,
    Case,
    CaseIdentity,
    Kind,
    SuiteIdentity,
    case_json,
    identity_json,
)


@dataclass(frozen=True, slots=True)
class RunSuite:
    """What is taken, and what is known of the people."""

    cases: int = 100
    """At most."""
    seed: int = 0
    """Chooses among the samples."""
    kind: Kind = "real"
    licence: str = ""
    creator: str = ""
    consent: str | None = None
    width: int = 832
    height: int = 480
    frames: int = 81
    fps: int = 16


@dataclass
class _Packed:
    """A sample of the shards."""

    key: str
    caption: str = ""
    pictures: dict[int, dict[int | None, bytes]] = field(default_factory=dict)
    """By identity and yaw; None is the reference."""


def make_from_run(folder: Folder, shards: Folder, wanted: RunSuite) -> tuple[int, int]:
    """Write and seal a suite; how many cases it has, and how many samples could not be cases.

    A case is a sample with a caption and with every yaw of the run for each of its people. Raises
    UserError where the shards give none.
    """
    if folder.exists("suite.json"):
        raise UserError(f"{folder.url} holds a suite already; give another folder")
    yaws, source = _manifest(shards)
    chosen, unfit = [], 0
    prompts: set[str] = set()
    for sample in _samples(shards):
        whole = all({None, *yaws} <= set(views) for views in sample.pictures.values())
        known = sample.caption.strip() and sample.caption.strip() not in prompts
        if known and whole and 1 <= len(sample.pictures) <= MOST_IDENTITIES:
            prompts.add(sample.caption.strip())
            chosen.append(sample)
            chosen.sort(key=lambda one: _draw(wanted.seed, one.key))
            del chosen[wanted.cases :]
        else:
            unfit += 1
    if not chosen:
        raise UserError(
            f"{shards.url} has no sample with a caption and all {len(yaws)} views of its people"
        )
    lines = []
    for sample in sorted(chosen, key=lambda one: one.key):
        name = _id(sample.key)
        people = [
            _write_person(folder, f"{name}-{number}", views, yaws, source, wanted)
            for number, views in sorted(sample.pictures.items())
        ]
        case = Case(
            id=name,
            prompt=sample.caption.strip(),
            identities=tuple(
                CaseIdentity(who, role, "person")  # type: ignore[arg-type]
                for who, role in zip(people, "AB", strict=False)
            ),
            shown=yaws,
            seed=0,
            width=wanted.width,
            height=wanted.height,
            frames=wanted.frames,
            fps=wanted.fps,
            tags=("pair" if len(people) > 1 else "solo",),
        )
        lines.append(case_json(case))
    folder.put("cases.jsonl", ("\n".join(lines) + "\n").encode())
    write_head(folder, version="1", yaws=yaws, licence=wanted.licence)
    seal(folder)
    return len(lines), unfit


def _manifest(shards: Folder) -> tuple[tuple[int, ...], str]:
    """The yaws of the run, and what names it. Raises UserError where nothing was packed."""
    try:
        manifest = json.loads(shards.read("manifest.json"))
        yaws = tuple(sorted(int(yaw) for yaw in manifest["rules"]["yaws"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError) as wrong:
        raise UserError(
            f"{shards.url} holds no finished shards: `harmoview pack RUN` makes them"
        ) from wrong
    return yaws, f"shards {hashlib.sha256(shards.read('manifest.json')).hexdigest()[:12]}"


def _samples(shards: Folder) -> Iterator[_Packed]:
    """Every sample of every shard, its pictures and caption. Raises UserError for a damaged tar."""
    for name in shards.names("*.tar"):
        now = _Packed("")
        try:
            with shards.open(name) as file, tarfile.open(fileobj=file, mode="r|") as tar:
                for info in tar:
                    key, _, rest = info.name.partition(".")
                    if key != now.key:
                        if now.key:
                            yield now
                        now = _Packed(key)
                    parsed = parse_name(rest)
                    content = tar.extractfile(info) if parsed or rest == "txt" else None
                    if content is None:
                        continue
                    if parsed is None:
                        now.caption = content.read().decode(errors="replace")
                    else:
                        now.pictures.setdefault(parsed[0], {})[parsed[1]] = content.read()
        except tarfile.TarError as wrong:
            raise UserError(f"{shards.url}/{name} is damaged ({wrong})") from wrong
        if now.key:
            yield now


def _write_person(
    folder: Folder,
    name: str,
    views: dict[int | None, bytes],
    yaws: tuple[int, ...],
    source: str,
    wanted: RunSuite,
) -> str:
    for yaw in (None, *yaws):
        folder.put(f"identities/{name}/{picture_name(yaw)}", views[yaw])
    identity = SuiteIdentity(
        id=name,
        kind=wanted.kind,
        source=source,
        licence=wanted.licence,
        creator=wanted.creator,
        consent=wanted.consent,
    )
    folder.put(f"identities/{name}/identity.json", identity_json(identity))
    return name


def _id(key: str) -> str:
    """A sample's key as an id: small letters, digits, hyphens, and a hash so that ids differ."""
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in key.lower()).strip("-")[:40]
    return f"{plain or 'case'}-{hashlib.sha256(key.encode()).hexdigest()[:6]}"


def _draw(seed: int, key: str) -> str:
    return hashlib.sha256(f"{seed}/{key}".encode()).hexdigest()
