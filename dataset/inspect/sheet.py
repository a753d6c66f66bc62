"""The contact sheet of a run: some of its identities, with what the rules say of every view.

It has a row per identity, a column per yaw, and around every picture a frame in the colour of its
verdict.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from datapipe.files import Folder
from datapipe.run.info import load_info
from datapipe.run.store import CandidateStore, DamagedCandidate, Pictures
from datapipe.run.tables import tables
from dataset.judged import Row
from filters.judge import IdentityVerdict, Judge, Verdict
from filters.rules import Rules

PICTURE, GAP, MARGIN, SIDE = 176, 12, 24, 230
"""Pixels: a picture's side, between pictures, around the sheet, the column of keys."""
NOTE = 92
"""Pixels below a picture for the rule that it fails and its numbers."""
PAPER, INK, GREY = (250, 250, 248), (28, 30, 33), (110, 114, 120)
GREEN, RED, AMBER = (34, 139, 74), (196, 43, 43), (204, 132, 12)
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


def draw_sheet(title: str, lines: Sequence[SheetLine], stopped: Sequence[Row]) -> Image.Image:
    yaws = sorted({yaw for line in lines for yaw in line.verdict.views})
    columns = 1 + len(yaws)
    width = max(2 * MARGIN + SIDE + columns * (PICTURE + GAP), 1000)
    head, step = 110 if lines else 56, PICTURE + NOTE + GAP
    foot = 40 + 22 * len(stopped) if stopped else 0
    sheet = Image.new("RGB", (width, head + step * len(lines) + foot + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 18), title, INK, font(24))
    if lines:
        _draw_heads(draw, yaws, head - 22)
    for number, line in enumerate(lines):
        _draw_line(sheet, draw, line, yaws, head + 6 + number * step)
    top = head + step * len(lines) + 8
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
            numbers = numbers_of(row)
            draw_picture(sheet, place, picture, verdict, numbers, _frame(verdict, kept))


def draw_picture(
    sheet: Image.Image,
    place: tuple[int, int],
    picture: bytes | None,
    verdict: Verdict,
    numbers: str,
    colour: tuple[int, int, int],
) -> None:
    """A picture in its frame; the reason across its foot, how far off and the numbers below it."""
    draw = ImageDraw.Draw(sheet)
    left, top = place
    box = (left, top, left + PICTURE, top + PICTURE)
    if picture is None:
        draw.rectangle(box, (225, 225, 225))
        draw.text((left + 12, top + 12), "picture lost", GREY, font(14))
    else:
        with Image.open(io.BytesIO(picture)) as opened:
            small = opened.convert("RGB").resize((PICTURE, PICTURE), Image.Resampling.LANCZOS)
        sheet.paste(small, place)
    if verdict.reason:
        draw.rectangle((left, top + PICTURE - 24, left + PICTURE, top + PICTURE), colour)
        middle = left + PICTURE / 2, top + PICTURE - 21
        draw.text(middle, verdict.reason, (255, 255, 255), font(15), anchor="ma")
    draw.rectangle(box, outline=colour, width=4)
    below = [*wrap(verdict.detail, 12, PICTURE, 4), *wrap(numbers, 12, PICTURE, 2)]
    for number, text in enumerate(filter(None, below)):
        draw.text((left, top + PICTURE + 3 + 14 * number), text, GREY, font(12))


def _frame(verdict: Verdict, kept: bool) -> tuple[int, int, int]:
    return RED if not verdict.passed else GREEN if kept else AMBER


def numbers_of(view: Row) -> str:
    """The measurements of a picture, as far as there are any."""
    named = (
        ("yaw", "measured_yaw", "+.1f"),
        ("cosine", "identity_cosine", ".2f"),
        ("sharpness", "sharpness", ".3g"),
        (view["aesthetic_scorer"], "aesthetic", ".3g"),
        ("expression", "expression", ".2f"),
    )
    return ", ".join(
        f"{name} {view[column]:{form}}" for name, column, form in named if view[column] is not None
    )


def _last_line(text: str | None) -> str:
    return (text or "").strip().rsplit("\n", 1)[-1]


def jpeg(sheet: Image.Image) -> bytes:
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own typeface: the same sheet on every machine."""
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise TypeError("Pillow was built without FreeType")
    return font


def wrap(text: str, size: int, width: int, most: int) -> list[str]:
    """Lines no wider than `width` pixels; the last of `most` ends in … where text is lost."""
    lines = [""]
    for word in text.split():
        for piece in _pieces(word, size, width):
            longer = f"{lines[-1]} {piece}".strip()
            if font(size).getlength(longer) <= width:
                lines[-1] = longer
            else:
                lines.append(piece)
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1][:-1]}…"]
    return lines


def _pieces(word: str, size: int, width: int) -> list[str]:
    """A word, cut where it alone is wider than a line."""
    pieces = [""]
    for letter in word:
        if font(size).getlength(pieces[-1] + letter) > width:
            pieces.append("")
        pieces[-1] += letter
    return pieces


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
        views = rows(f"SELECT * FROM views {within}, yaw", keys)
    store, judge = CandidateStore(run, info.settings_hash), Judge(rules)
    lines: list[SheetLine] = []
    for row in sorted(candidates, key=lambda row: str(row["key"])):
        lines += _lines(row, references, views, judge, store)
    title = f"{run.url.rsplit('/', 1)[-1]}: {len(candidates)} candidates, {len(lines)} identities"
    return jpeg(draw_sheet(title, lines, sorted(stopped, key=lambda row: str(row["key"]))))


def _lines(
    row: Row,
    references: Sequence[Row],
    views: Sequence[Row],
    judge: Judge,
    store: CandidateStore,
) -> list[SheetLine]:
    key = row["key"]
    own = [reference for reference in references if reference["key"] == key]
    made = judge.shown(view for view in views if view["key"] == key)
    try:
        pictures: Sequence[Pictures | None] = store.read(row["candidate"]).pictures
    except (FileNotFoundError, DamagedCandidate):
        pictures = [None] * len(own)
    verdicts = judge.rows(own, made).identities
    return [
        SheetLine(
            key=key,
            index=index,
            verdict=verdict,
            pictures=shown,
            reference=own[index],
            measured={view["yaw"]: view for view in made if view["identity"] == index},
        )
        for index, (verdict, shown) in enumerate(zip(verdicts, pictures, strict=True))
    ]
