"""What sheets of pictures are drawn with: colours, type, a picture in the frame of its verdict."""

from __future__ import annotations

import io
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from dataset.judged import Row
from filters.judge import Verdict

PICTURE, GAP, MARGIN, SIDE = 176, 12, 24, 230
"""Pixels: a picture's side, between pictures, around the sheet, the column of keys."""
NOTE = 92
"""Pixels below a picture for the rule that it fails and its numbers."""
PAPER, INK, GREY = (250, 250, 248), (28, 30, 33), (110, 114, 120)
GREEN, RED, AMBER = (34, 139, 74), (196, 43, 43), (204, 132, 12)


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


def draw_inset(sheet: Image.Image, corner: tuple[int, int], picture: bytes, side: int) -> None:
    """A small picture over another, in a frame of paper."""
    with Image.open(io.BytesIO(picture)) as opened:
        inset = opened.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
    sheet.paste(inset, corner)
    left, top = corner
    edge = (left - 1, top - 1, left + side, top + side)
    ImageDraw.Draw(sheet).rectangle(edge, outline=PAPER)


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


def jpeg(sheet: Image.Image) -> bytes:
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own typeface: the same sheet on every machine. Raises TypeError without FreeType."""
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
