"""How the files of a corpus are named, and which of them are passed over."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

VIDEOS = (
    ".mp4", ".mov", ".mkv", ".webm", ".avi",
    ".m4v", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob", ".wmv", ".asf", ".flv", ".f4v",
    ".3gp", ".3g2", ".ogv",
)  # fmt: skip
MANIFESTS = (".parquet", ".jsonl", ".csv", ".tsv")
COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
COMPRESSED_MANIFESTS = tuple(f"{kind}{by}" for kind in MANIFESTS for by in (".gz", ".bz2", ".zst"))

HIDDEN, OTHER = "hidden", "other"
"""What is counted together of the files that are passed over, besides their suffixes."""
_SUFFIX = re.compile(r"\.[a-z][a-z0-9_]{0,11}|\.[0-9][a-z][a-z0-9]{0,2}")
_MOST_SUFFIXES = 1000
_SHOWN = 12


class PassedOver(Counter[str]):
    """Files of a corpus that are no part of any sample, by suffix."""

    def add(self, name: str) -> None:
        """Count a file; what is no suffix (of `frame.000123`), and too many, are `other`."""
        suffix = suffix_of(name)
        if name.lower().endswith(COMPRESSED_TARS):
            suffix = f".tar{suffix}" if ".tar." in name.lower() else suffix
        elif not suffix:
            suffix = "no suffix"
        elif not _SUFFIX.fullmatch(suffix) or (suffix not in self and len(self) >= _MOST_SUFFIXES):
            suffix = OTHER
        self[suffix] += 1

    def __str__(self) -> str:
        """As "12 .gif, 3 .pdf", the most first."""
        most = sorted(self.items(), key=lambda entry: (-entry[1], entry[0]))
        shown = ", ".join(f"{count:,} {suffix}" for suffix, count in most[:_SHOWN])
        more = sum(count for _, count in most[_SHOWN:])
        return f"{shown} and {more:,} others" if more else shown


def suffix_of(name: str) -> str:
    """The extension of a file's name or path, lower case, with the dot; "" without one."""
    name = name.rpartition("/")[2]
    at = name.rfind(".")
    return name[at:].lower() if 0 < at < len(name) - 1 else ""


def folded(name: str) -> str:
    """The name as a file system sees it that knows neither letter case nor ways to write é."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def well_formed(text: str) -> str:
    """The text with U+FFFD for halves of surrogate pairs, which no UTF-8 file can hold."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
