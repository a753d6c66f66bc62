"""A person's views with what was measured on them: the picture, and the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class Person:
    """One person's reference and views, by the yaw that was asked for."""

    key: str
    reference: Image
    views: Mapping[int, Image]
    measured: Mapping[int, Measured]


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
        got = "no face" if measured.yaw is None else f"{round(measured.yaw):+d}°"
        cosine = "" if measured.cosine is None else f", cos {measured.cosine:.2f}"
        row.append(Cell(view, f"{yaw:+d}°: {got}{cosine}"))
    return row
