"""The contact sheet of a run: some of its identities, with what the rules say of every view.

It has a row per identity, a column per yaw, and around every picture a frame in the colour of its
verdict; below, where in its video the person is seen and how the head turns, as a strip along the
time, and real views that the rules passed over.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from datapipe.files import Folder
from datapipe.prepare.windows import TRACK, read_track, track_bytes
from datapipe.run.info import load_info
from datapipe.run.store import CandidateStore, DamagedCandidate, Pictures
from datapipe.run.tables import tables
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
    SIDE,
    draw_picture,
    font,
    jpeg,
    numbers_of,
    wrap,
)
from dataset.judged import Row
from filters.judge import IdentityVerdict, Judge, Verdict
from filters.rules import Rules

HEIGHT, BAND = 112, 72
"""Pixels of a strip, and of the band in it that stands for yaws from 90 degrees down to -90."""
TILE = 128
"""Pixels of a picture's side in a row of them."""


def draw_strip(
    title: str,
    windows: Sequence[tuple[Row, Verdict]],
    track: npt.NDArray[np.float32],
    width: int,
) -> Image.Image:
    """Windows in green, rejected ones in red with the reason, over them the measured yaw.

    `track` is as `datapipe.prepare.windows.read_track` gives it. The strip ends with the last
    moment in which the person is seen.
    """
    strip = Image.new("RGB", (width, HEIGHT), PAPER)
    draw = ImageDraw.Draw(strip)
    until = max([0.1, *(row["end"] for row, _ in windows), *track[:, 0].tolist()])
    across = (width - 2 * MARGIN) / until
    top, middle = 22, 22 + BAND / 2
    draw.text((MARGIN, 2), title, INK, font(14))
    draw.rectangle((MARGIN, top, width - MARGIN, top + BAND), (236, 236, 234))
    for row, verdict in windows:
        left, right = (MARGIN + row[name] * across for name in ("start", "end"))
        colour = GREEN if verdict.passed else RED
        pale = tuple(255 - (255 - part) // 3 for part in colour)
        draw.rectangle((left, top, max(left + 1, right - 1), top + BAND), pale, colour)
        if verdict.reason:
            draw.text((left + 3, top + 2), verdict.reason, colour, font(12))
    draw.line((MARGIN, middle, width - MARGIN, middle), GREY)
    yaw = TRACK.index("yaw")
    for look in track[~np.isnan(track[:, yaw])]:
        x, y = MARGIN + float(look[0]) * across, middle - float(look[yaw]) / 90 * BAND / 2
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), INK)
    for place, text, anchor in ((MARGIN, "0 s", "la"), (width - MARGIN, f"{until:.1f} s", "ra")):
        draw.text((place, top + BAND + 2), text, GREY, font(12), anchor=anchor)
    return strip


def draw_tiles(title: str, tiles: Sequence[tuple[str, bytes]], width: int) -> Image.Image:
    """JPEG pictures in a row, each with a line of text below."""
    strip = Image.new("RGB", (width, TILE + 48), PAPER)
    draw = ImageDraw.Draw(strip)
    draw.text((MARGIN, 2), title, INK, font(14))
    for number, (text, picture) in enumerate(tiles):
        left = MARGIN + number * (TILE + 12)
        with Image.open(io.BytesIO(picture)) as opened:
            small = opened.convert("RGB").resize((TILE, TILE), Image.Resampling.LANCZOS)
        strip.paste(small, (left, 24))
        draw.text((left, 26 + TILE), text, GREY, font(12))
    return strip


LEGEND = (
    (GREEN, "accepted"),
    (RED, "rejected: the first rule that fails, and by how much"),
    (AMBER, "passes, but its identity is left out"),
)


@dataclass(frozen=True, slots=True)
class SheetLine:
    """One row of the sheet: an identity."""

    key: str
    index: int
    verdict: IdentityVerdict
    pictures: Pictures | None
    """None when the candidate is lost or damaged."""
    reference: Row
    measured: Mapping[int, Row]
    """The rows of the views by yaw."""
    windows: Sequence[tuple[Row, Verdict]] = ()
    """Where it is seen, in order of time."""
    passed_over: Sequence[Row] = ()
    """Where a yaw has a real view and a synthesised one, the one that the rules did not take."""

    def strips(self, width: int) -> Iterator[Image.Image]:
        """What is drawn below its pictures."""
        if self.windows:
            track = read_track((self.pictures.track if self.pictures else b"") or track_bytes([]))
            yield draw_strip("where it is seen, and its yaw", self.windows, track, width)
        tiles = [
            (f"{row['yaw']:+d}° {row['source']}, {numbers_of(row).partition(', ')[0]}", picture)
            for row in self.passed_over
            if self.pictures and (picture := self.pictures.of(row["yaw"], row["source"]))
        ]
        if tiles:
            yield draw_tiles("at these yaws the rules took the other view", tiles, width)


def draw_sheet(title: str, lines: Sequence[SheetLine], stopped: Sequence[Row]) -> Image.Image:
    yaws = sorted({yaw for line in lines for yaw in line.verdict.views})
    columns = 1 + len(yaws)
    width = max(2 * MARGIN + SIDE + columns * (PICTURE + GAP), 1000)
    head, step = 110 if lines else 56, PICTURE + NOTE + GAP
    foot = 40 + 22 * len(stopped) if stopped else 0
    strips = [list(line.strips(width)) for line in lines]
    rows = step * len(lines) + sum(strip.height for some in strips for strip in some)
    sheet = Image.new("RGB", (width, head + rows + foot + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 18), title, INK, font(24))
    if lines:
        _draw_heads(draw, yaws, head - 22)
    top = head + 6
    for line, below in zip(lines, strips, strict=True):
        _draw_line(sheet, draw, line, yaws, top)
        top += step
        for strip in below:
            sheet.paste(strip, (0, top - GAP))
            top += strip.height
    top += 2
    if stopped:
        draw.text((MARGIN, top), "videos without views", INK, font(16))
    for number, row in enumerate(stopped):
        text = f"{row['key']} · {row['outcome']}: {row['reason']} · {_last_line(row['detail'])}"
        fitted = wrap(text, 14, width - 2 * MARGIN, 1)[0]
        draw.text((MARGIN, top + 28 + 22 * number), fitted, GREY, font(14))
    return sheet


def _draw_heads(draw: ImageDraw.ImageDraw, yaws: Sequence[int], top: int) -> None:
    """What the colours mean, and over each column what it shows."""
    left = MARGIN
    for colour, text in LEGEND:
        draw.rectangle((left, 56, left + 14, 70), colour)
        draw.text((left + 22, 54), text, GREY, font(14))
        left += 50 + round(font(14).getlength(text))
    for column, text in enumerate(["reference", *(f"{yaw:+d}°" if yaw else "0°" for yaw in yaws)]):
        centre = MARGIN + SIDE + column * (PICTURE + GAP) + PICTURE / 2
        draw.text((centre, top), text, INK, font(16), anchor="ma")


def _draw_line(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, line: SheetLine, yaws: Sequence[int], top: int
) -> None:
    of_identity = line.verdict.verdict
    kept = of_identity.passed
    for number, text in enumerate(wrap(line.key, 16, SIDE - 16, 3)):
        draw.text((MARGIN, top + 20 * number), text, INK, font(16))
    draw.text((MARGIN, top + 66), f"identity {line.index}", GREY, font(14))
    said = "kept" if kept else f"left out: {of_identity.reason}"
    draw.text((MARGIN, top + 88), said, GREEN if kept else RED, font(14))
    for number, text in enumerate(wrap(of_identity.detail, 13, SIDE - 16, 4)):
        draw.text((MARGIN, top + 110 + 17 * number), text, GREY, font(13))
    left = MARGIN + SIDE
    reference = line.pictures.reference if line.pictures else None
    own, numbers = line.verdict.reference, numbers_of(line.reference)
    draw_picture(sheet, (left, top), reference, own, numbers, _frame(own, kept))
    for column, yaw in enumerate(yaws, 1):
        verdict = line.verdict.views.get(yaw)
        if verdict is not None:
            row = line.measured[yaw]
            picture = line.pictures.of(yaw, row["source"]) if line.pictures else None
            place = left + column * (PICTURE + GAP), top
            numbers = f"{'real, ' if row['source'] == 'real' else ''}{numbers_of(row)}"
            draw_picture(sheet, place, picture, verdict, numbers, _frame(verdict, kept))


def _frame(verdict: Verdict, kept: bool) -> tuple[int, int, int]:
    return RED if not verdict.passed else GREEN if kept else AMBER


def _last_line(text: str | None) -> str:
    return (text or "").strip().rsplit("\n", 1)[-1]


def contact_sheet(run: Folder, rules: Rules, samples: int) -> bytes:
    """A JPEG of up to `samples` candidates, and a list of videos that never became one.

    Where there are more, those shown are spread over the run, and are the same ones each time.
    Raises UserError when the run cannot be read.
    """
    info = load_info(run)
    with tables(run, info) as connection:

        def rows(query: str, *values: object) -> list[Row]:
            table = connection.sql(query, params=list(values)).to_arrow_table()
            return list(table.to_pylist())

        where = "SELECT * FROM ledger WHERE outcome"
        spread = "ORDER BY md5(key), key LIMIT ?"
        candidates = rows(f"{where} = 'candidate' {spread}", samples)
        stopped = rows(f"{where} <> 'candidate' {spread}", samples)
        keys = sorted(row["key"] for row in candidates)
        within = "WHERE list_contains(?, key) ORDER BY key, identity"
        references = rows(f"SELECT * EXCLUDE (embedding) FROM refs {within}", keys)
        views = rows(f"SELECT * FROM views {within}, yaw, source", keys)
        windows = rows(f'SELECT * FROM windows {within}, start, "end"', keys)
    store, judge = CandidateStore(run, info.settings_hash), Judge(rules)
    lines: list[SheetLine] = []
    for row in sorted(candidates, key=lambda row: str(row["key"])):
        lines += _lines(row, references, views, windows, judge, store)
    title = f"{run.url.rsplit('/', 1)[-1]}: {len(candidates)} candidates, {len(lines)} identities"
    return jpeg(draw_sheet(title, lines, sorted(stopped, key=lambda row: str(row["key"]))))


def _lines(
    row: Row,
    references: Sequence[Row],
    views: Sequence[Row],
    windows: Sequence[Row],
    judge: Judge,
    store: CandidateStore,
) -> list[SheetLine]:
    key = row["key"]
    own = [reference for reference in references if reference["key"] == key]
    made = [view for view in views if view["key"] == key]
    seen = [(window, judge.window(window)) for window in windows if window["key"] == key]
    try:
        pictures: Sequence[Pictures | None] = store.read(row["candidate"]).pictures
    except (FileNotFoundError, DamagedCandidate):
        pictures = [None] * len(own)
    verdicts = judge.rows(own, made).identities
    counted = {(view["identity"], view["yaw"]): view for view in judge.shown(made)}
    return [
        SheetLine(
            key=key,
            index=index,
            verdict=verdict,
            pictures=shown,
            reference=own[index],
            measured={yaw: view for (whose, yaw), view in counted.items() if whose == index},
            windows=[pair for pair in seen if pair[0]["identity"] == index],
            passed_over=[
                view
                for view in made
                if view["identity"] == index
                and counted[index, view["yaw"]]["source"] != view["source"]
            ],
        )
        for index, (verdict, shown) in enumerate(zip(verdicts, pictures, strict=True))
    ]
