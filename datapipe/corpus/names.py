"""How the files of a corpus are named, which are passed over, and the keys of its samples.

Keys are unique, and safe as file names on every system. A clean path reads as itself, `a/b.mp4` →
`a__b`. Everything else gets a readable slug and a hash of the whole path. What is clean is so
narrow that two clean paths never meet, not even where file names ignore case; a clean path that
could be taken for a slug with a hash is not clean.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import unicodedata
from collections import Counter
from pathlib import PurePosixPath

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


MAX_LENGTH = 120
_HASH_BYTES = 10  # 80 bits: two of 10 million paths meet with a probability of 4e-11
_SLUG_LENGTH = MAX_LENGTH - 17  # 16 letters of base32 and their dash

# One separator between runs of letters and digits, so that "__" and "--" are free as joints.
_PART = r"[a-z0-9]+(?:[_-][a-z0-9]+)*"
_CLEAN_PATH = re.compile(rf"{_PART}(?:/{_PART})*")
_CLEAN_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_LIKE_A_HASH = re.compile(r".*-[a-z2-7]{16}", re.IGNORECASE)
_RESERVED = re.compile(r"con|prn|aux|nul|(com|lpt)[0-9]", re.IGNORECASE)  # by Windows


def file_key(path: str) -> str:
    """The key of a file by its path below the corpus root; a folder's path ends with a slash."""
    clean = _clean_stem(path, ".mp4")
    return clean if clean and _is_safe(clean) else _hashed(path, "file", path)


def member_key(tar: str, member: str, nth: int = 0) -> str:
    """The key of the nth member of that name in a tar, by the tar's path below the corpus root."""
    clean = (_clean_stem(tar, ".tar"), _clean_stem(member, ".mp4"))
    if nth == 0 and all(clean):
        key = "--".join(map(str, clean))
        if _is_safe(key):
            return key
    return _hashed(member, "member", tar, member, nth)


def row_key(given: str | None, path: str) -> str:
    """The key of a row of a manifest, if no other row has the same one."""
    if given is None:
        return file_key(path)
    if _CLEAN_KEY.fullmatch(given) and _is_safe(given):
        return given
    return _hashed(given, "row", given, path)


def shared_row_key(given: str | None, path: str, nth: int) -> str:
    """The key of the nth row with this key and path, where `row_key` is that of several rows."""
    return _hashed(path if given is None else given, "shared row", given, path, nth)


def _clean_stem(path: str, suffix: str) -> str | None:
    stem = path.removesuffix(suffix)
    if stem == path or len(stem) > MAX_LENGTH or not _CLEAN_PATH.fullmatch(stem):
        return None
    return stem.replace("/", "__")


def _is_safe(key: str) -> bool:
    taken = _LIKE_A_HASH.fullmatch(key) or _RESERVED.fullmatch(key)
    return len(key) <= MAX_LENGTH and not taken


def _hashed(text: str, *identity: str | int | None) -> str:
    # JSON in ASCII is injective, also for the lone surrogates of undecodable file names.
    digest = hashlib.blake2b(json.dumps(identity).encode(), digest_size=_HASH_BYTES).digest()
    return f"{_slug(text)}-{base64.b32encode(digest).decode().lower()}"


def _slug(text: str) -> str:
    """The end of a path in plain letters: the file's name says more than the first folder's."""
    end = text[-4 * _SLUG_LENGTH :]
    stem = end.removesuffix(PurePosixPath(end).suffix)
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9]+", "_", plain)[-_SLUG_LENGTH:].strip("_") or "video"
