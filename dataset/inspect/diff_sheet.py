"""The contact sheet of views that change sides between two sets of rules."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw

from datapipe.files import Folder
from datapipe.run.info import load_info
from datapipe.run.store import CandidateStore, DamagedCandidate, Pictures
from dataset.inspect.diff import ChangedView, Diff
from dataset.inspect.sheet import (
    AMBER,
    GAP,
    GREEN,
    GREY,
    INK,
    MARGIN,
    NOTE,
    PAPER,
    PICTURE,
    RED,
    draw_picture,
    font,
    jpeg,
    numbers_of,
    wrap,
)
from filters.judge import Judge, Verdict
from filters.rules import Rules

COLUMNS = 8
INSET = 60
"""Pixels: the side of the reference in a corner of its view."""
_HEAD, _NAME = 76, 34
"""Pixels above all, and above a picture for its name."""


@dataclass(frozen=True, slots=True)
class _Tile:
    view: ChangedView
    verdict: Verdict
    colour: tuple[int, int, int]
    pictures: Pictures | None


def changes_sheet(run: Folder, title: str, diff: Diff, a: Rules, b: Rules) -> bytes:
    """A JPEG of the views that were drawn, each with its reference in the corner.

    Raises UserError when the run cannot be read.
    """
    store = CandidateStore(run, load_info(run).settings_hash)
    lost = [_tile(view, Judge(b), store, RED, "") for view in diff.lost]
    gained = [_tile(view, Judge(a), store, GREEN, "was ") for view in diff.gained]
    changes = [change.passed for change in diff.yaws.values()]
    leave, come = sum(c.lost for c in changes), sum(c.gained for c in changes)
    sections = [
        (f"{leave:,} views pass by A and not by B", _of(lost, RED)),
        ("Leave with their identity", _of(lost, AMBER)),
        (f"{come:,} views pass by B and not by A", _of(gained, GREEN)),
        ("Come with their identity", _of(gained, AMBER)),
    ]
    shown = [(f"{text} ({len(tiles)} shown)", tiles) for text, tiles in sections if tiles]
    return jpeg(_draw(title if shown else f"{title}: no view changes sides", shown))


def _of(tiles: Sequence[_Tile], colour: tuple[int, int, int]) -> list[_Tile]:
    return [tile for tile in tiles if tile.colour == colour]


def _tile(
    view: ChangedView,
    judge: Judge,
    store: CandidateStore,
    colour: tuple[int, int, int],
    prefix: str,
) -> _Tile:
    (identity,) = judge.rows([view.reference], view.views).identities
    verdict = identity.views[view.yaw]
    if verdict.passed:  # by both rules, but its identity does not
        verdict, colour = identity.verdict, AMBER
    try:
        pictures = store.read(view.candidate).pictures[view.identity]
    except (FileNotFoundError, DamagedCandidate):
        pictures = None
    return _Tile(view, replace(verdict, reason=f"{prefix}{verdict.reason}"), colour, pictures)


def _draw(title: str, sections: Sequence[tuple[str, Sequence[_Tile]]]) -> Image.Image:
    columns = max([6, *(min(len(tiles), COLUMNS) for _, tiles in sections)])
    step = _NAME + PICTURE + NOTE + GAP
    rows = sum(-(-len(tiles) // COLUMNS) for _, tiles in sections)
    height = _HEAD + 40 * len(sections) + step * rows + MARGIN
    sheet = Image.new("RGB", (2 * MARGIN + columns * (PICTURE + GAP) - GAP, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 18), title, INK, font(24))
    legend = "red: the rule of B that fails; green: that of A; amber: why its identity is left out"
    draw.text((MARGIN, 50), legend, GREY, font(14))
    top = _HEAD
    for text, tiles in sections:
        draw.text((MARGIN, top + 10), text, INK, font(18))
        top += 40
        for start in range(0, len(tiles), COLUMNS):
            for column, tile in enumerate(tiles[start : start + COLUMNS]):
                _draw_tile(sheet, draw, tile, MARGIN + column * (PICTURE + GAP), top)
            top += step
    return sheet


def _draw_tile(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, tile: _Tile, left: int, top: int
) -> None:
    view = tile.view
    draw.text((left, top), wrap(view.key, 13, PICTURE, 1)[0], INK, font(13))
    yaw = f"{view.yaw:+d}°" if view.yaw else "0°"
    draw.text((left, top + 16), f"identity {view.identity}, {yaw}", GREY, font(13))
    (row,) = [row for row in view.views if row["yaw"] == view.yaw]
    picture = tile.pictures.views.get(view.yaw) if tile.pictures else None
    place = left, top + _NAME
    draw_picture(sheet, place, picture, tile.verdict, numbers_of(row), tile.colour)
    if tile.pictures is not None:
        with Image.open(io.BytesIO(tile.pictures.reference)) as opened:
            inset = opened.convert("RGB").resize((INSET, INSET), Image.Resampling.LANCZOS)
        away = 4 if view.yaw > 0 else PICTURE - INSET - 4  # from where the face looks
        corner = left + away, top + _NAME + 4
        sheet.paste(inset, corner)
        edge = (corner[0] - 1, corner[1] - 1, corner[0] + INSET, corner[1] + INSET)
        draw.rectangle(edge, outline=PAPER)
