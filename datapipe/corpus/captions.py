"""Captions as people store them: text files, JSON, and columns of tables.

A caption is text that a person or a model wrote. Numbers, NaN and null are none, and a list is
never spelled out: its first text is the caption, and all of them are kept.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from datapipe.record import Sample

TEXT, JSON = ".txt", ".json"
SUFFIXES = (TEXT, JSON)
"""Of the caption file beside a video, in order of preference."""
FIELDS = ("caption", "text", "prompt", "description")
"""Of a JSON object or a table's row, in order of preference."""

MAX_TEXT = 64 * 1024
"""Bytes of a text file that are read, and characters of a caption that are kept."""
MAX_JSON = 1024 * 1024
"""Bytes of a JSON file; a larger one is not read: cut short, it would not parse."""
MAX_CAPTIONS = 256
"""Captions of one video that are kept, and no more than `MAX_ALL` characters of them."""
MAX_ALL = 4 * MAX_TEXT

_NOT_TEXT = {"", "nan", "null", "none", "<na>", "n/a"}
"""What programs write where there is nothing, in any letter case."""
_NUMBER = re.compile(r"[+-]?[\d.,]+(?:e[+-]?\d+)?", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_ESCAPED = re.compile(r"[\udc80-\udcff]")
"""Bytes that were no text, as Python's "surrogateescape" carries them."""
_DEEPEST = 8
"""Levels of lists and objects that are searched for texts."""


@dataclass(frozen=True, slots=True)
class Captions:
    """What a source says about a video."""

    texts: tuple[str, ...] = ()
    problem: str = ""
    """Why there is none although the source holds something."""

    def on(self, sample: Sample) -> Sample:
        """The sample with these captions."""
        if not self.texts and not self.problem:
            return sample
        several = self.texts if len(self.texts) > 1 else ()
        first = self.texts[0] if self.texts else ""
        return replace(sample, caption=first, captions=several, caption_problem=self.problem)


def best(found: Iterable[Captions]) -> Captions:
    """The first with a text, else the first with a problem; looks no further than it must."""
    fallback = Captions()
    for captions in found:
        if captions.texts:
            return captions
        fallback = fallback if fallback.problem else captions
    return fallback


def bytes_to_read(suffix: str, size: int | None) -> int:
    """How much of a caption file of this size (None: not known) `from_file` wants to see."""
    if suffix == TEXT:
        return MAX_TEXT + 1 if size is None else min(size, MAX_TEXT + 1)
    if size is None:
        return MAX_JSON + 1
    return size if size <= MAX_JSON else 0


def from_file(name: str, data: bytes, size: int, field: str | None = None) -> Captions:
    """The captions in a `.txt` or `.json` file of `size` bytes, by what was read of it."""
    try:
        if not name.lower().endswith(JSON):
            found = _read(decoded(data[:MAX_TEXT], cut=len(data) > MAX_TEXT))
        elif max(size, len(data)) > MAX_JSON:
            raise ValueError(f"is larger than {MAX_JSON:,} bytes, the most that is read")
        else:
            found = _from_json(decoded(data), field)
    except ValueError as wrong:
        found = Captions(problem=str(wrong))
    return replace(found, problem=f"{name} {found.problem}") if found.problem else found


def from_fields(values: Mapping[str, Any], field: str | None = None) -> Captions:
    """The captions in a JSON object or a table's row: of `field`, or the first of `FIELDS`."""
    names = FIELDS if field is None else (field,)
    return best(_named(name, _read(values[name])) for name in names if name in values)


def _named(name: str, found: Captions) -> Captions:
    return replace(found, problem=f"{name} {found.problem}") if found.problem else found


def _from_json(text: str, field: str | None) -> Captions:
    if not text.strip():
        return Captions()
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as wrong:
        raise ValueError(f"is no JSON: {wrong}") from wrong
    if isinstance(content, dict):
        return from_fields(content, field)
    return _read(content) if field is None else Captions()


def _read(value: object) -> Captions:
    """Every text in a value of any type."""
    texts: list[str] = []
    problem, room = "", MAX_ALL
    for part in _parts(value):
        try:
            text = cleaned(part if isinstance(part, str) else decoded(part))
        except ValueError as wrong:
            problem = problem or str(wrong)
            continue
        if text.lower() not in _NOT_TEXT and not _NUMBER.fullmatch(text):
            texts.append(text)
            room -= len(text)
        if room <= 0 or len(texts) == MAX_CAPTIONS:
            break
    return Captions(tuple(texts), "" if texts else problem)


def _parts(value: object, depth: int = 0) -> Iterator[str | bytes]:
    """The texts in a value, lists and objects opened; an object's known field before all others."""
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, str):
        spelled = spelled_out(value[:MAX_ALL])
        if spelled is None:
            yield value
        elif depth < _DEEPEST:
            yield from _parts(spelled, depth + 1)
    elif depth < _DEEPEST and isinstance(value, Mapping):
        known = next((name for name in FIELDS if value.get(name)), None)
        for part in value.values() if known is None else (value[known],):
            yield from _parts(part, depth + 1)
    elif depth < _DEEPEST and isinstance(value, list):
        for part in value:
            yield from _parts(part, depth + 1)


def encoding_of(head: bytes) -> str:
    """The encoding that a file's byte order mark names; without one it is UTF-8."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8-sig"


def decoded(data: bytes, *, cut: bool = False) -> str:
    """The text in a file's bytes, which may end within a letter where they are `cut`.

    Raises ValueError for other bytes, saying where.
    """
    encoding = encoding_of(data)
    try:
        return codecs.getincrementaldecoder(encoding)("strict").decode(data, final=not cut)
    except UnicodeDecodeError as wrong:
        name = encoding.upper().removesuffix("-SIG")
        where = f"byte 0x{data[wrong.start]:02x} at {wrong.start}"
        raise ValueError(f"is not {name} ({where}); save it as UTF-8") from wrong


def cleaned(text: str) -> str:
    """Text that is safe to write as UTF-8 everywhere, without outer white space, cut to length.

    Raises ValueError where letters were lost before.
    """
    text = text[: 2 * MAX_TEXT]
    if (lost := _ESCAPED.search(text)) is not None:
        raise ValueError(f"is not UTF-8 (byte 0x{ord(lost[0]) - 0xDC00:02x}); save it as UTF-8")
    if 4 * text.count("\0") > len(text):
        raise ValueError("holds zero bytes: it is UTF-16 without a byte order mark, or no text")
    if "\ufffd" in text:
        raise ValueError("holds U+FFFD in place of letters that were lost when it was written")
    if not text.isascii():  # halves of surrogate pairs, which no UTF-8 file can hold
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
    return _CONTROL.sub("", text).strip()[:MAX_TEXT]


_TOKEN = re.compile(
    r"""\s*+(?:
    (?P<bytes>b?)(?P<quote>['"])(?P<text>(?:[^'"\\]|\\.|(?!(?P=quote))['"])*+)(?P=quote)
    | (?P<open>[\[({]) | (?P<close>[\])}]) | (?P<between>[:,=])
    | (?P<word>None|nan|NaN|null|[tT]rue|[fF]alse|array|dtype|object|np\.\w++
        |[-+]?[\d.]++(?:e[-+]?\d++)?+)
    )\s*+""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|x[0-9a-fA-F]{2}|\n|.)", re.DOTALL)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "b": "", "f": "", "a": "", "v": "", "0": "", "\n": ""}
_PAIRS = {"[": "]", "(": ")", "{": "}"}


@dataclass(slots=True)
class _Open:
    """A list or object that is being read; a list has no names."""

    closing: str = ""
    values: list[Any] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def value(self) -> list[Any] | dict[str, Any]:
        if self.values and len(self.names) == len(self.values):
            return dict(zip(self.names, self.values, strict=True))
        return self.values


def spelled_out(text: str) -> list[Any] | dict[str, Any] | bytes | None:
    """The list, object or bytes that the text is as Python, NumPy or JSON would print it.

    None where it is plain text, which may hold brackets too. Nothing is evaluated.
    """
    text = text.strip()
    if not text.startswith(("[", "{", "(", "b'", 'b"', "array(")):
        return None
    stack = [_Open()]
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        finished = len(stack) == 1 and stack[0].values not in ([], [None])  # None: of `array(`
        if token is None or finished or len(stack) > _DEEPEST or not _take(token, stack):
            return None
        at = token.end()
    whole = stack[0].values[-1] if len(stack) == 1 and stack[0].values else None
    return whole if isinstance(whole, list | dict | bytes) else None


def _take(token: re.Match[str], stack: list[_Open]) -> bool:
    """Add a token to what is open; False where it does not fit."""
    here = stack[-1]
    if token["text"] is not None:
        here.values.append(_unescaped(token["text"], as_bytes=bool(token["bytes"])))
    elif token["open"]:
        stack.append(_Open(_PAIRS[token["open"]]))
    elif token["close"]:
        if here.closing != token["close"]:
            return False
        stack.pop()
        stack[-1].values.append(here.value())
    elif token["between"] == ":" and here.values:
        here.names.append(str(here.values.pop()))
    elif token["word"]:
        here.values.append(None)
    return True


def _unescaped(text: str, *, as_bytes: bool) -> str | bytes:
    def letter(escape: re.Match[str]) -> str:
        code = escape[1]
        return chr(min(int(code[1:], 16), 0x10FFFF)) if len(code) > 1 else _LETTERS.get(code, code)

    plain = _ESCAPE.sub(letter, text)
    if as_bytes:
        return plain.encode("latin-1", "replace")
    return plain.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
