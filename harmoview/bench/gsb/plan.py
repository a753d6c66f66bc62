"""Who judges what: pairs of videos with their sides, checks among them, cut into sessions.

The key (which side is which method) and the plan stay with the organiser; a package knows neither.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from harmoview.bench.run import VideoKey

FORMAT = 1
AXES = ("overall", "identity", "motion", "naturalness", "prompt")
"""What raters may be asked; overall always."""
CHECKS = 0.1
"""Share of a session's items that are checks."""

Kind = Literal["pair", "identical", "repeat", "gold"]
CHECK_KINDS: tuple[Kind, ...] = ("identical", "repeat", "gold")


@dataclass(frozen=True, slots=True)
class Exclusion:
    """When a rater's answers are left out; fixed before anybody has answered."""

    wrong_gold: int = 1
    """More wrong gold items than this."""
    repeat_agreement: float = 0.6
    """A smaller share of repeats answered alike."""


@dataclass(frozen=True, slots=True)
class Item:
    """One question: two videos side by side."""

    id: str
    kind: Kind
    case: str
    seed: int
    opponent: str
    """The method that the base is compared with; for checks that of the pair they are made of."""
    left: str
    """A method, or `blurred` for the spoilt copy of a gold item."""
    right: str
    repeats: str = ""
    """The item that a repeat asks again, with its sides exchanged."""


@dataclass(frozen=True, slots=True)
class Package:
    """One session of one rater."""

    name: str
    round: int
    """Which vote on its items this is; nobody answers packages of two rounds."""
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Study:
    """Everything that is fixed beforehand."""

    base: str
    opponents: tuple[str, ...]
    axes: tuple[str, ...]
    seed: int
    packages: tuple[Package, ...]
    exclusion: Exclusion = field(default_factory=Exclusion)


BLURRED = "blurred"


def plan(
    base: str,
    pairs: Mapping[str, Sequence[VideoKey]],
    *,
    rounds: int,
    session: int,
    axes: tuple[str, ...],
    seed: int,
) -> Study:
    """`pairs` are the base's videos by opponent that has the same case and seed.

    Every pair is judged once in each round. Sides are balanced within each opponent and round, the
    order is shuffled, and a session has at most `session` items, one in ten of them a check.
    """
    packages: list[Package] = []
    for number in range(1, rounds + 1):
        rng = np.random.default_rng(_seed(seed, "round", number))
        items = [item for name in sorted(pairs) for item in _sided(base, name, pairs[name], rng)]
        order = rng.permutation(len(items))
        room = max(1, session - math.ceil(CHECKS * session))
        parts = max(1, math.ceil(len(items) / room))
        for place, chosen in enumerate(np.array_split(order, parts), 1):
            name = f"package-{number}-{place:02d}"
            some = [items[int(index)] for index in chosen]
            mixed = _with_checks(base, some, rng, place + number)
            named = _named(name, seed, mixed)
            packages.append(Package(name, number, named))
    return Study(base, tuple(sorted(pairs)), axes, seed, tuple(packages))


def _sided(
    base: str, opponent: str, keys: Sequence[VideoKey], rng: np.random.Generator
) -> list[Item]:
    """A pair for each video, the base on the left in half of them."""
    sides = rng.permutation(np.arange(len(keys)) % 2)
    return [
        Item(
            id=f"{opponent}/{key.case}/{key.seed}",
            kind="pair",
            case=key.case,
            seed=key.seed,
            opponent=opponent,
            left=opponent if side else base,
            right=base if side else opponent,
        )
        for key, side in zip(keys, sides, strict=True)
    ]


def _with_checks(
    base: str, items: Sequence[Item], rng: np.random.Generator, turn: int
) -> list[Item]:
    """The items with checks among them; a repeat comes after what it repeats."""
    count = math.ceil(len(items) * CHECKS / (1 - CHECKS))
    mixed = list(items)
    for number in range(count):
        kind = CHECK_KINDS[(number + turn) % len(CHECK_KINDS)]
        of = items[int(rng.integers(len(items)))]
        if kind == "identical":
            sides = base, base
        elif kind == "repeat":
            sides = of.right, of.left
        else:
            sides = (base, BLURRED) if rng.random() < 0.5 else (BLURRED, base)
        check = replace(
            of,
            id=f"{kind}-{number}/{of.id}",
            kind=kind,
            left=sides[0],
            right=sides[1],
            repeats=of.id if kind == "repeat" else "",
        )
        first = next(k for k, item in enumerate(mixed) if item.id == of.id) + 1
        low = first if kind == "repeat" else 0
        mixed.insert(int(rng.integers(low, len(mixed) + 1)), check)
    return mixed


def _named(package: str, seed: int, items: Sequence[Item]) -> tuple[Item, ...]:
    """The same items under names that tell nothing."""
    names = {item.id: token(seed, package, item.id)[:12] for item in items}
    return tuple(
        replace(item, id=names[item.id], repeats=names.get(item.repeats, "")) for item in items
    )


def token(seed: int, *parts: object) -> str:
    """32 hexadecimal digits that only the seed explains."""
    text = "/".join(map(str, (seed, *parts))).encode()
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def _seed(*parts: object) -> int:
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1


def key_json(study: Study) -> dict[str, Any]:
    """key.json: what each item is, by package."""
    return {
        "format": FORMAT,
        "base": study.base,
        "packages": {
            package.name: {item.id: _without_id(item) for item in package.items}
            for package in study.packages
        },
    }


def _without_id(item: Item) -> dict[str, Any]:
    return {name: value for name, value in asdict(item).items() if name != "id"}


def plan_json(study: Study, **more: Any) -> dict[str, Any]:
    """plan.json: assignment, seed, exclusion rules."""
    return {
        "format": FORMAT,
        "base": study.base,
        "opponents": list(study.opponents),
        "axes": list(study.axes),
        "seed": study.seed,
        "exclusion": asdict(study.exclusion),
        "assignment": {
            package.name: {"round": package.round, "items": len(package.items)}
            for package in study.packages
        },
        **more,
    }
