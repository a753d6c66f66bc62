"""Validation: views of people the training never saw, measured, with the adapter and without."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from datapipe.record import Image
from lora_engine.sheet import Cell, contact_sheet


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured on one view; None where no face was found."""

    yaw: float | None
    """Degrees; > 0: the nose points to image right."""
    cosine: float | None
    """Identity cosine to the reference, -1..1."""


Measure = Callable[[Image, Sequence[Image]], Sequence[Measured]]
"""(reference, views) to one Measured for each view."""

Synthesize = Callable[[Image, Sequence[int], Sequence[int]], Sequence[Image]]
"""(reference, yaws, seeds) to one view for each yaw."""


@dataclass(frozen=True, slots=True)
class Person:
    """One held-out person's views."""

    key: str
    reference: Image
    views: Mapping[int, Image]
    measured: Mapping[int, Measured]


def validate(
    people: Iterable[tuple[str, Image]],
    yaws: Sequence[int],
    synthesize: Synthesize,
    measure: Measure,
) -> list[Person]:
    """Make and measure every person's views; the seeds depend on person and yaw alone."""
    done = []
    for key, reference in people:
        views = synthesize(reference, yaws, [_seed(key, yaw) for yaw in yaws])
        measured = measure(reference, views)
        done.append(
            Person(
                key,
                reference,
                dict(zip(yaws, views, strict=True)),
                dict(zip(yaws, measured, strict=True)),
            )
        )
    return done


def _seed(key: str, yaw: int) -> int:
    return int.from_bytes(hashlib.sha256(f"validation:{key}:{yaw}".encode()).digest()[:7])


def summary(people: Sequence[Person]) -> dict[str, object]:
    """Yaw MAE, identity cosine and share of measured views, overall and per yaw; None for none."""
    yaws = sorted({yaw for person in people for yaw in person.measured})
    per_yaw = {f"{yaw:+03d}": _figures(people, (yaw,)) for yaw in yaws}
    return {**_figures(people, yaws), "per_yaw": per_yaw}


def _figures(people: Sequence[Person], yaws: Sequence[int]) -> dict[str, float | None]:
    found = [(yaw, person.measured[yaw]) for person in people for yaw in yaws]
    errors = [abs(m.yaw - yaw) for yaw, m in found if m.yaw is not None]
    cosines = [m.cosine for _, m in found if m.cosine is not None]
    return {
        "yaw_mae": fmean(errors) if errors else None,
        "identity_cosine": fmean(cosines) if cosines else None,
        "measured": len(errors) / len(found) if found else None,
    }


def grid(people: Sequence[Person]) -> Image:
    """Rows people, columns yaws; under each the yaw asked for, the measured one, the cosine."""
    return contact_sheet([_row(person) for person in people])


def _row(person: Person) -> list[Cell]:
    row = [Cell(person.reference, "reference")]
    for yaw, view in sorted(person.views.items()):
        measured = person.measured[yaw]
        got = "no face" if measured.yaw is None else f"{measured.yaw:+.0f}°"
        cosine = "" if measured.cosine is None else f" cos {measured.cosine:.2f}"
        row.append(Cell(view, f"{yaw:+d}° → {got}{cosine}"))
    return row
