"""A suite: cases, and the people that they show, as files anyone can make and read.

    SUITE/suite.json      format, version, yaws, counts, licence, suite_sha256
    SUITE/cases.jsonl     one case a line
    SUITE/identities/ID/  reference.jpg, yaw-90.jpg … yaw+90.jpg, identity.json

`suite_sha256` covers every case, picture and identity.json. It is written when a suite is sealed,
which `bench make` and `bench check --seal` do; only a sealed suite can be generated or scored from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from datapipe.errors import UserError
from datapipe.files import Folder
from datapipe.pictures import decode_jpeg
from datapipe.record import Image
from harmoview.bench.suite_json import (
    FORMAT,
    Case,
    MalformedSuite,
    SuiteIdentity,
    as_json,
    identity_json,
    parse_case,
    parse_head,
    parse_identity,
)


@dataclass(frozen=True)
class Suite:
    """A sealed suite."""

    folder: Folder
    version: str
    yaws: tuple[int, ...]
    """Of the references, degrees, ascending; they hold 0."""
    licence: str
    sha256: str
    cases: tuple[Case, ...]
    identities: Mapping[str, SuiteIdentity]

    @cached_property
    def case(self) -> Mapping[str, Case]:
        """Cases by id."""
        return {case.id: case for case in self.cases}

    def picture(self, identity: str, yaw: int | None) -> bytes:
        """The file of one view, or of the reference where `yaw` is None."""
        return self.folder.read(f"identities/{identity}/{picture_name(yaw)}")

    def view(self, identity: str, yaw: int | None) -> Image:
        """The same, decoded."""
        return decode_jpeg(self.picture(identity, yaw))


def picture_name(yaw: int | None) -> str:
    """`reference.jpg`, `yaw-90.jpg`, `yaw+00.jpg`, as `generate --identity` reads them."""
    return "reference.jpg" if yaw is None else f"yaw{yaw:+03d}.jpg"


def picture_names(yaws: tuple[int, ...]) -> list[str]:
    """Of one identity: the reference and every view."""
    return [picture_name(None), *map(picture_name, yaws)]


def load_suite(url: str) -> Suite:
    """A sealed suite. Raises UserError where it is none, is wrong, or was changed since."""
    folder = Folder(url)
    hint = f"`harmoview bench check {url}` lists everything that is wrong with it"
    try:
        head = read_head(folder)
        cases = tuple(parse_case(line, head["yaws"]) for line in case_lines(folder))
        identities = {name: read_identity(folder, name) for name in identity_names(folder)}
    except (MalformedSuite, FileNotFoundError) as wrong:
        raise UserError(f"{url} is not a suite: {wrong}; {hint}") from wrong
    absent = {who.id for case in cases for who in case.identities} - set(identities)
    if absent:
        raise UserError(f"{url}: there is no identities/{sorted(absent)[0]}; {hint}")
    if not head["suite_sha256"]:
        raise UserError(f"{url} is not sealed: `harmoview bench check {url} --seal` does it")
    if suite_sha256(folder, head) != head["suite_sha256"]:
        raise UserError(
            f"{url} was changed since it was sealed, so results of before and after would not be "
            f"of one suite; `harmoview bench check {url} --seal` makes it a suite of its own"
        )
    return Suite(
        folder=folder,
        version=head["version"],
        yaws=head["yaws"],
        licence=head["licence"],
        sha256=head["suite_sha256"],
        cases=cases,
        identities=identities,
    )


def read_head(folder: Folder) -> dict[str, Any]:
    """suite.json, checked. Raises MalformedSuite, FileNotFoundError."""
    return parse_head(folder.read("suite.json"))


def case_lines(folder: Folder) -> list[bytes]:
    """The lines of cases.jsonl that hold a case. Raises FileNotFoundError."""
    return [line for line in folder.read("cases.jsonl").splitlines() if line.strip()]


def identity_names(folder: Folder) -> list[str]:
    """Of the folders in identities/ that hold an identity.json or a picture."""
    found = {name.split("/")[1] for name in folder.names("identities/*/*")}
    return sorted(found)


def read_identity(folder: Folder, name: str) -> SuiteIdentity:
    """identity.json of one person. Raises MalformedSuite, FileNotFoundError."""
    return parse_identity(name, folder.read(f"identities/{name}/identity.json"))


def seal(folder: Folder) -> str:
    """Write the hash of every picture and of the suite; its suite_sha256.

    Raises MalformedSuite, FileNotFoundError where the suite cannot be read.
    """
    head = read_head(folder)
    names = identity_names(folder)
    for name in names:
        identity = read_identity(folder, name)
        held = {path.split("/")[-1] for path in folder.names(f"identities/{name}/*.jpg")}
        hashes = {
            file: hashlib.sha256(folder.read(f"identities/{name}/{file}")).hexdigest()
            for file in picture_names(head["yaws"])
            if file in held
        }
        if dict(identity.pictures) != hashes:
            sealed = replace(identity, pictures=hashes)
            folder.put(f"identities/{name}/identity.json", identity_json(sealed))
    sha256 = suite_sha256(folder, head)
    cases = [parse_case(line, head["yaws"]) for line in case_lines(folder)]
    write_head(
        folder,
        version=head["version"],
        yaws=head["yaws"],
        licence=head["licence"],
        counts={
            "cases": len(cases),
            "identities": len(names),
            "two_people": sum(len(case.identities) > 1 for case in cases),
        },
        sha256=sha256,
    )
    return sha256


def write_head(
    folder: Folder,
    *,
    version: str,
    yaws: tuple[int, ...],
    licence: str,
    counts: Mapping[str, int] | None = None,
    sha256: str = "",
) -> None:
    """suite.json."""
    head = {
        "format": FORMAT,
        "version": version,
        "yaws": list(yaws),
        "counts": dict(counts or {}),
        "licence": licence,
        "suite_sha256": sha256,
    }
    folder.put("suite.json", as_json(head))


def suite_sha256(folder: Folder, head: Mapping[str, Any]) -> str:
    """Of the head, the cases, and every identity.json and picture, as `sha256  name` lines."""
    core = {"format": FORMAT, **{key: head[key] for key in ("version", "licence")}}
    core["yaws"] = list(head["yaws"])
    lines = [json.dumps(core, sort_keys=True)]
    names = ["cases.jsonl"]
    for identity in identity_names(folder):
        held = set(folder.names(f"identities/{identity}/*"))
        wanted = ["identity.json", *picture_names(head["yaws"])]
        names += [n for n in (f"identities/{identity}/{file}" for file in wanted) if n in held]
    lines += [f"{hashlib.sha256(folder.read(name)).hexdigest()}  {name}" for name in names]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
