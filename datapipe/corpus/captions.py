"""Captions as people store them: a text file, or `caption` in a JSON object.

How the files that make up a corpus are named.
"""

from __future__ import annotations

import json

VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi")
MANIFESTS = (".parquet", ".jsonl", ".csv")
COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
COMPRESSED_MANIFESTS = tuple(f"{kind}{by}" for kind in MANIFESTS for by in (".gz", ".bz2", ".zst"))


MAX_BYTES = 64 * 1024
"""A text is cut here; captions are a few hundred bytes."""
MAX_JSON_BYTES = 1024 * 1024
"""A larger JSON file is not read: cut, it would not parse."""

SUFFIXES = (".txt", ".json")
"""In order of preference."""


def bytes_to_read(suffix: str, size: int | None) -> int:
    """How much of a caption file of this size (None: not known) is worth reading."""
    if suffix == ".txt":
        return MAX_BYTES if size is None else min(size, MAX_BYTES)
    if size is None:
        return MAX_JSON_BYTES
    return size if size <= MAX_JSON_BYTES else 0


def decode(suffix: str, data: bytes) -> str:
    """The caption in a file's bytes; "" where there is none. Bytes that are not UTF-8 → U+FFFD."""
    text = data.decode("utf-8-sig", errors="replace")
    if suffix == ".txt":
        return clean(text)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):  # not JSON, or nested beyond sense
        return ""
    caption = content.get("caption") if isinstance(content, dict) else None
    return clean(caption) if isinstance(caption, str) else ""


def clean(text: str) -> str:
    """Text that can be written as UTF-8 everywhere, without outer white space, cut to length."""
    return well_formed(text).strip()[:MAX_BYTES]


def well_formed(text: str) -> str:
    """The text with U+FFFD for halves of surrogate pairs, which no UTF-8 file can hold."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
