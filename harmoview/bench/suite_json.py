"""The entries of a suite's files, read and checked: what is wrong is said in a sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, cast

from datapipe.errors import meant

FORMAT = 1
HEAD = ("format", "version", "yaws", "counts", "licence", "suite_sha256")
"""Names in suite.json."""
ID = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
MOST_IDENTITIES = 2
SIDES = (128, 2048)
"""Pixels that a side of a case's video may have."""
MOST_FRAMES = 1025

Kind = Literal["virtual", "synthetic", "real"]
Role = Literal["A", "B"]
Placement = Literal["left", "right"]


class MalformedSuite(ValueError):
    """What is wrong with one entry of a suite, as a sentence."""


@dataclass(frozen=True, slots=True)
class CaseIdentity:
    """A person of a case."""

    id: str
    role: Role
    label: str
    """What the prompt calls them."""
    placement: Placement | None = None
    """The half of the picture that the prompt puts them in."""


@dataclass(frozen=True, slots=True)
class Case:
    """One video to be made: a prompt, one or two people, a size."""

    id: str
    prompt: str
    identities: tuple[CaseIdentity, ...]
    shown: tuple[int, ...]
    """Yaws of the references that a model is given, degrees."""
    seed: int
    width: int
    """Pixels."""
    height: int
    frames: int
    fps: int
    requests: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """`yaw`: the degrees between which the prompt has heads turn."""
    tags: tuple[str, ...] = ()

    @property
    def yaw_request(self) -> tuple[float, float] | None:
        return self.requests.get("yaw")


@dataclass(frozen=True, slots=True)
class SuiteIdentity:
    """A person of a suite, and what is known of their pictures."""

    id: str
    kind: Kind
    source: str
    licence: str
    creator: str
    consent: str | None = None
    """How a real person agreed to this use."""
    pictures: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 by file name; filled in by sealing."""
    seed: int | None = None
    """A virtual person's own seed."""


def parse_head(data: bytes) -> dict[str, Any]:
    """suite.json: version, licence, yaws, suite_sha256. Raises MalformedSuite."""
    head = _object(data, "suite.json")
    _only(head, HEAD, "suite.json")
    if head.get("format") != FORMAT:
        raise MalformedSuite(f"suite.json has format {head.get('format')!r}, not {FORMAT}")
    yaws = _yaws(head.get("yaws"), "suite.json: yaws")
    if 0 not in yaws:
        raise MalformedSuite("suite.json: yaws must hold 0, the frontal view")
    return {
        "version": _text(head.get("version"), "suite.json: version"),
        "licence": str(head.get("licence") or ""),
        "suite_sha256": str(head.get("suite_sha256") or ""),
        "yaws": yaws,
    }


def parse_case(line: bytes, yaws: tuple[int, ...]) -> Case:
    """One line of cases.jsonl; `yaws` are those of the suite. Raises MalformedSuite."""
    data = _object(line, "cases.jsonl")
    name = data.get("id")
    if not isinstance(name, str) or not ID.fullmatch(name):
        raise MalformedSuite(f"case id {name!r} is not of small letters, digits and hyphens")
    where = f"case {name}"
    _only(data, _names(Case), where)
    shown = yaws if data.get("shown") is None else _yaws(data["shown"], f"{where}: shown")
    if set(shown) - set(yaws):
        raise MalformedSuite(f"{where}: shown {list(shown)} are not all among the suite's yaws")
    width, height = (_whole(data.get(key), f"{where}: {key}") for key in ("width", "height"))
    frames, fps = (_whole(data.get(key), f"{where}: {key}") for key in ("frames", "fps"))
    for key, side in (("width", width), ("height", height)):
        if side % 16 or not SIDES[0] <= side <= SIDES[1]:
            raise MalformedSuite(
                f"{where}: {key} {side} is not a multiple of 16 from {SIDES[0]} to {SIDES[1]}"
            )
    if frames % 4 != 1 or not 5 <= frames <= MOST_FRAMES:
        raise MalformedSuite(f"{where}: frames {frames} is not 1 more than a multiple of 4")
    if not 1 <= fps <= 120:
        raise MalformedSuite(f"{where}: fps {fps} is not from 1 to 120")
    tags = data.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise MalformedSuite(f"{where}: tags must be a list of words")
    return Case(
        id=name,
        prompt=_text(data.get("prompt"), f"{where}: prompt"),
        identities=_case_identities(data.get("identities"), where),
        shown=shown,
        seed=_whole(data.get("seed", 0), f"{where}: seed"),
        width=width,
        height=height,
        frames=frames,
        fps=fps,
        requests=_requests(data.get("requests", {}), where),
        tags=tuple(tags),
    )


def _case_identities(data: Any, where: str) -> tuple[CaseIdentity, ...]:
    if not isinstance(data, list) or not 1 <= len(data) <= MOST_IDENTITIES:
        raise MalformedSuite(f"{where}: identities must be a list of one or two people")
    found = []
    for number, one in enumerate(data):
        if not isinstance(one, dict):
            raise MalformedSuite(f"{where}: identities[{number}] is not an object")
        _only(one, _names(CaseIdentity), f"{where}: identities[{number}]")
        name, role = one.get("id"), one.get("role", "AB"[number])
        placement = one.get("placement")
        if not isinstance(name, str) or not ID.fullmatch(name):
            raise MalformedSuite(f"{where}: {name!r} is not an identity's id")
        if role != "AB"[number]:
            raise MalformedSuite(f"{where}: the roles are A, then B, not {role!r}")
        if placement not in (None, "left", "right"):
            raise MalformedSuite(f"{where}: placement is left, right or null, not {placement!r}")
        found.append(CaseIdentity(name, role, str(one.get("label") or "person"), placement))
    if len({who.id for who in found}) < len(found):
        raise MalformedSuite(f"{where}: both people are {found[0].id}")
    places = [who.placement for who in found if who.placement]
    if len(set(places)) < len(places):
        raise MalformedSuite(f"{where}: both people are placed {places[0]}")
    return tuple(found)


def _requests(data: Any, where: str) -> dict[str, tuple[float, float]]:
    if not isinstance(data, dict) or set(data) - {"yaw"}:
        raise MalformedSuite(f'{where}: requests may hold "yaw": [least, most]')
    found = {}
    for name, bounds in data.items():
        numbers = isinstance(bounds, list) and len(bounds) == 2
        if not numbers or not all(isinstance(b, int | float) for b in bounds):
            raise MalformedSuite(f"{where}: requests.{name} must be [least, most]")
        low, high = map(float, bounds)
        if not -90 <= low <= high <= 90:
            raise MalformedSuite(f"{where}: requests.{name} {bounds} is not within -90 and 90")
        found[name] = (low, high)
    return found


def parse_identity(name: str, content: bytes) -> SuiteIdentity:
    """identity.json of the folder of that name. Raises MalformedSuite."""
    where = f"identities/{name}/identity.json"
    if not ID.fullmatch(name):
        raise MalformedSuite(f"identities/{name}: the id is not of small letters, digits, hyphens")
    data = _object(content, where)
    _only(data, _names(SuiteIdentity) - {"id"}, where)
    kind = data.get("kind")
    if kind not in ("virtual", "synthetic", "real"):
        raise MalformedSuite(f"{where}: kind is virtual, synthetic or real, not {kind!r}")
    pictures = data.get("pictures") or {}
    if not isinstance(pictures, dict):
        raise MalformedSuite(f"{where}: pictures must be hashes by file name")
    seed = data.get("seed")
    return SuiteIdentity(
        id=name,
        kind=cast(Kind, kind),
        source=str(data.get("source") or ""),
        licence=str(data.get("licence") or ""),
        creator=str(data.get("creator") or ""),
        consent=None if data.get("consent") is None else str(data["consent"]),
        pictures={str(key): str(value) for key, value in pictures.items()},
        seed=None if seed is None else _whole(seed, f"{where}: seed"),
    )


def identity_json(identity: SuiteIdentity) -> bytes:
    """identity.json; the id is the folder's name."""
    data = {name: value for name, value in asdict(identity).items() if name != "id"}
    return as_json(data)


def case_json(case: Case) -> str:
    """A line of cases.jsonl."""
    return json.dumps(asdict(case), ensure_ascii=False)


def as_json(data: Any) -> bytes:
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()


def _object(data: bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError as wrong:  # UnicodeDecodeError too
        raise MalformedSuite(f"{where} is not JSON: {wrong}") from wrong
    if not isinstance(found, dict):
        raise MalformedSuite(f"{where} is not a JSON object")
    return found


def _only(data: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Raises MalformedSuite for a name that nothing reads: misspelt, it would be passed over."""
    if unknown := sorted(set(data) - set(known)):
        raise MalformedSuite(f"{where} has no {unknown[0]}; {meant(unknown[0], known)}")


def _names(entry: type[Case | CaseIdentity | SuiteIdentity]) -> set[str]:
    return {one.name for one in fields(entry)}


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise MalformedSuite(f"{where} is missing")
    return value


def _whole(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise MalformedSuite(f"{where} must be a whole number, not {value!r}")
    return value


def _yaws(value: Any, where: str) -> tuple[int, ...]:
    numbers = isinstance(value, list | tuple) and value and all(type(one) is int for one in value)
    if not numbers or len(set(value)) < len(value) or max(map(abs, value)) > 90:
        raise MalformedSuite(f"{where} must be different whole degrees within -90 and 90")
    return tuple(sorted(value))
