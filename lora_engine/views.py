"""People's views with what was measured on them: figures, and contact sheets for the eye."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from datapipe.record import Image

_GAP = 4
"""Pixels between the cells of a sheet."""


SPACING = 30
"""Degrees between neighbouring yaws."""


@dataclass(frozen=True, slots=True)
class SheetCell:
    """One picture of a contact sheet, with a line of text under it."""

    image: Image
    text: str = ""


def contact_sheet(rows: Sequence[Sequence[SheetCell]], side: int = 192) -> Image:
    """Lay rows of pictures out on white; every cell is `side` pixels wide."""
    size = max(11, side // 14)
    font = ImageFont.load_default(size)
    height = side + size + 3 * _GAP
    columns = max(map(len, rows))
    canvas = Pillow.new("RGB", (columns * (side + _GAP) + _GAP, len(rows) * height), "white")
    draw = ImageDraw.Draw(canvas)
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            left, top = _GAP + x * (side + _GAP), _GAP + y * height
            picture = Pillow.fromarray(cell.image).resize((side, side), Pillow.Resampling.LANCZOS)
            canvas.paste(picture, (left, top))
            middle = left + side // 2, top + side + _GAP
            draw.text(middle, cell.text, font=font, fill="black", anchor="ma")
    return np.asarray(canvas)


@dataclass(frozen=True, slots=True)
class MeasuredView:
    """What was measured on one view; None where no face was found."""

    yaw: float | None
    """Degrees; > 0 means that the nose points to image right."""
    cosine: float | None
    """Identity cosine to the reference, -1..1."""


@dataclass(frozen=True, slots=True)
class PersonViews:
    """One person's reference and views, both views and measurements by the yaw asked for."""

    key: str
    reference: Image
    views: Mapping[int, Image]
    measured: Mapping[int, MeasuredView]


def summary(people: Sequence[PersonViews]) -> dict[str, object]:
    """Average yaw error, identity cosine, share of views with a face, score: overall, per yaw.

    A figure is None where nothing was measured.
    """
    yaws = sorted({yaw for person in people for yaw in person.measured})
    per_yaw = {f"{yaw:+03d}": _figures(people, (yaw,)) for yaw in yaws}
    return {**_figures(people, yaws), "per_yaw": per_yaw}


def _figures(people: Sequence[PersonViews], yaws: Sequence[int]) -> dict[str, float | None]:
    found = [(yaw, person.measured[yaw]) for person in people for yaw in yaws]
    errors = [abs(m.yaw - yaw) for yaw, m in found if m.yaw is not None]
    cosines = [m.cosine for _, m in found if m.cosine is not None]
    scores = [_score(yaw, m) for yaw, m in found]
    return {
        "yaw_mae": fmean(errors) if errors else None,
        "identity_cosine": fmean(cosines) if cosines else None,
        "measured": len(errors) / len(found) if found else None,
        "score": fmean(scores) if scores else None,
    }


def _score(yaw: int, measured: MeasuredView) -> float:
    """Rate a view, 0..1: its identity cosine, less the further it is from the yaw asked for.

    A view without a face has 0, and so has one that shows a neighbour's yaw.
    """
    if measured.yaw is None or measured.cosine is None:
        return 0.0
    return max(0.0, 1 - abs(measured.yaw - yaw) / SPACING) * max(0.0, measured.cosine)


def grid(people: Sequence[PersonViews]) -> Image:
    """Draw a row for each person: the reference, then the views with yaw, yaw read and cosine."""
    return contact_sheet([_row(person) for person in people])


def _row(person: PersonViews) -> list[SheetCell]:
    row = [SheetCell(person.reference, "reference")]
    for yaw, view in sorted(person.views.items()):
        measured = person.measured[yaw]
        got = "no face" if measured.yaw is None else f"{round(measured.yaw):+d}°"
        cosine = "" if measured.cosine is None else f", cos {measured.cosine:.2f}"
        row.append(SheetCell(view, f"{yaw:+d}°: {got}{cosine}"))
    return row
